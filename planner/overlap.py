"""How well a mask covers what is known to be true."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.values import Affine, LabelMap


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """uint8[slices, rows, columns] labels; n is the n-th segment. affine None: on the grid of the result."""

    labels: NDArray[np.uint8]
    segments: tuple[str, ...]
    affine: Affine | None


def dice(mask: LabelMap, segment: str, truth: Truth, parts: tuple[str, ...]) -> float | None:
    """Dice coefficient of a segment and the union of `parts` of the truth: 0 to 1, 1 if both are empty.

    The truth's grid may run the other way along its axes. None if the two cannot be compared: another grid,
    an unknown segment or part.
    """
    if segment not in mask.segments or not parts or not set(parts) <= set(truth.segments):
        return None
    labels = truth.labels if truth.affine is None else _along(truth.labels, truth.affine, mask.affine)
    if labels is None or labels.shape != mask.labels.shape:
        return None
    ours = mask.labels == mask.segments.index(segment) + 1
    theirs = np.isin(labels, [truth.segments.index(part) + 1 for part in parts])
    together = int(ours.sum()) + int(theirs.sum())
    return 1.0 if together == 0 else 2.0 * int((ours & theirs).sum()) / together


def _along(labels: NDArray[np.uint8], affine: Affine, target: Affine) -> NDArray[np.uint8] | None:
    """Labels with their axes turned to run as the target's do; None if the grids differ in more than that."""
    steps = np.linalg.inv(target[:3, :3]) @ affine[:3, :3]
    signs = np.sign(np.diag(steps))
    if not signs.all() or not np.allclose(steps, np.diag(signs), atol=1e-3):
        return None
    return labels[tuple(slice(None, None, int(sign)) for sign in signs)]

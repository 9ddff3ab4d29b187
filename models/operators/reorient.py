"""Turn a volume so that its axes point where a kernel or a network expects them, without interpolation."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import numpy as np

from models.errors import PipelineError
from models.operators.base import KernelContext, Operator
from models.operators.edges import value_of
from models.values import Affine, Kind, Value, ValueType, Volume

_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Where a letter points: axis of LPS patient space and sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorient(Operator):
    """Volume -> Volume whose array axes point as near as whole axes can to `orientation`.

    orientation: three letters for (slices, rows, columns), each naming where higher indices lie. "SPL":
    slices go up (Superior), rows to the back (Posterior), columns to the patient's Left, as axial CT is
    usually stored. The affine stays exact, so oblique volumes stay oblique. The result is C-contiguous, and
    shares the input's memory where that already lies right.
    """

    name: ClassVar[str] = "reorient"
    idempotent: ClassVar[bool] = True
    orientation: str = "SPL"

    def __post_init__(self) -> None:
        if sorted(_LETTERS.get(letter, (-1, 0))[0] for letter in self.orientation) != [0, 1, 2]:
            raise ValueError("orientation must be three letters: one of S I, one of A P, one of L R")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        if len(inputs) != 1 or inputs[0].kind is not Kind.VOLUME:
            raise PipelineError("takes 1 input, a volume", key="of")
        return ValueType(kind=Kind.VOLUME, unit=inputs[0].unit)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        axes, flips = axes_towards(self.orientation, volume.affine)
        turned = volume.voxels.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        return Volume(
            voxels=np.ascontiguousarray(turned),
            affine=_turned_affine(volume.affine, axes, flips, turned.shape),
            unit=volume.unit,
            notes=volume.notes,
        )


def axes_towards(orientation: str, affine: Affine) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For each axis wanted, which axis of a grid is nearest to it, and whether that has to be reversed."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    wanted = [_LETTERS[letter] for letter in orientation]
    axes = max(
        permutations(range(3)),
        key=lambda order: sum(abs(directions[w, axis]) for (w, _), axis in zip(wanted, order, strict=True)),
    )
    flips = tuple(directions[w, axis] * sign < 0 for (w, sign), axis in zip(wanted, axes, strict=True))
    return axes, flips


def _turned_affine(
    affine: Affine, axes: tuple[int, ...], flips: tuple[bool, ...], shape: tuple[int, ...]
) -> Affine:
    turned = affine.copy()
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        turned[:3, new] = -affine[:3, old] if flip else affine[:3, old]
        if flip:
            turned[:3, 3] += affine[:3, old] * (shape[new] - 1)
    return turned

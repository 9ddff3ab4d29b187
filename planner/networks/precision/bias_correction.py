"""Put the mean shift that rounding causes in a layer's outputs back into its bias.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction", 2019, section 4.2; here with measured means.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_NEAR = 0.1
"""Share of places that count as near a border."""
_ENOUGH = 100
"""Places that a class must decide for its mean to be trusted: a guess."""


def correction(
    exact: NDArray[np.float32],
    inputs: NDArray[np.float32],
    rounded: NDArray[np.float32],
    rounded_inputs: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What to add to the bias: float32[out].

    exact, rounded: float32[out, inputs of one output], a filter before and after; inputs, rounded_inputs:
    float32[n, inputs], what it reads before and after.
    """
    before = exact.astype(np.float64) @ inputs.mean(axis=0, dtype=np.float64)
    after = rounded.astype(np.float64) @ rounded_inputs.mean(axis=0, dtype=np.float64)
    return np.asarray(before - after, np.float32)


def boundary_shift(
    exact: Sequence[NDArray[np.float32]], found: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """What to add to the last layer's bias so that borders between classes stay where they are: float32[C].

    exact, found: logits [n, C, ...], piece by piece. The mean difference of each class where it decides:
    among the tenth of places that are nearest to a border, those where the class is one of the two largest.
    With one class the border is at 0.
    """
    classes = exact[0].shape[1]
    shifts, counts = np.zeros(classes), np.zeros(classes, np.int64)
    for theirs, ours in zip(exact, found, strict=True):
        logits = np.moveaxis(theirs, 1, 0).reshape(classes, -1)
        difference = logits - np.moveaxis(ours, 1, 0).reshape(classes, -1)
        if classes == 1:
            margin, leaders = np.abs(logits[0]), np.zeros((1, logits.shape[1]), np.int64)
        else:
            leaders = np.argpartition(logits, classes - 2, axis=0)[-2:]
            two = np.take_along_axis(logits, leaders, axis=0)
            margin = two[1] - two[0]
        near = np.flatnonzero(margin <= np.quantile(margin, _NEAR))
        for row in leaders:
            lead = row[near]
            np.add.at(shifts, lead, difference[lead, near].astype(np.float64))
            np.add.at(counts, lead, 1)
    known = counts >= _ENOUGH
    return np.where(known, shifts / np.maximum(counts, 1), 0.0).astype(np.float32)

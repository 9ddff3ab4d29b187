"""Probabilities to labels on the same grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.values import Kind, LabelMap, ProbabilityMap, Value, ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class Argmax(Operator):
    """ProbabilityMap -> LabelMap: the likeliest class, or for one class where it is above `threshold`."""

    name: ClassVar[str] = "argmax"
    threshold: float = 0.5

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.PROBABILITY_MAP)
        return ValueType(
            kind=Kind.LABEL_MAP, on_source_grid=inputs[0].on_source_grid, segments=inputs[0].segments
        )

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given = value_of(inputs[0], ProbabilityMap)
        return LabelMap(
            labels=likeliest(given.values, self.threshold),
            affine=given.affine,
            segments=given.segments,
            source=given.source,
            notes=given.notes,
        )


def likeliest(values: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """uint8[...] from float32[classes, ...]: the first of the largest, or with one class > threshold."""
    if len(values) == 1:
        return np.asarray(values[0] > np.float32(threshold), np.uint8)
    best = values[0].copy()
    labels = np.zeros(best.shape, np.uint8)
    for label, value in enumerate(values[1:], start=1):
        better = value > best
        labels[better] = label
        np.maximum(best, value, out=best)
    return labels

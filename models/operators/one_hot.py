"""A label map as ones and zeros for each class: what can be interpolated without mixing labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.values import Kind, LabelMap, ProbabilityMap, Value, ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHot(Operator):
    """LabelMap -> ProbabilityMap, 1 for the class a voxel has and 0 for all others; class 0 is background.

    `restore_probability` of it draws smooth borders on a finer grid, where `restore` draws steps.
    """

    name: ClassVar[str] = "one_hot"

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.LABEL_MAP)
        return ValueType(
            kind=Kind.PROBABILITY_MAP, on_source_grid=inputs[0].on_source_grid, segments=inputs[0].segments
        )

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given = value_of(inputs[0], LabelMap)
        classes = np.arange(len(given.segments) + 1, dtype=np.uint8)
        return ProbabilityMap(
            values=(given.labels == classes[:, None, None, None]).astype(np.float32),
            affine=given.affine,
            segments=given.segments,
            notes=given.notes,
            source=given.source,
        )

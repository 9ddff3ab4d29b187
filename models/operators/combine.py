"""Several label maps into one: set operations on masks, or masks side by side as segments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import PipelineError
from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, expect_same_grid, value_of
from models.operators.masks import Mask
from models.values import Kind, LabelMap, Value, ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class Combine(Operator):
    """LabelMaps on one grid -> LabelMap.

    how: `or`, `and`, `minus` (the first without all others) give one segment, named after the first input
    or `segment`; `stack` keeps every segment of every input, where they overlap the earlier one.
    """

    name: ClassVar[str] = "combine"
    how: Literal["or", "and", "minus", "stack"]
    segment: str = ""

    def __post_init__(self) -> None:
        if self.how == "stack" and self.segment:
            raise ValueError("segment has no use with how: stack, which keeps the names")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        if len(inputs) < 2:
            raise PipelineError("takes 2 or more label maps", key="of")
        expect(inputs, *[Kind.LABEL_MAP] * len(inputs))
        segments = tuple(name for given in inputs for name in given.segments)
        if self.how != "stack":
            segments = (self.segment or (segments or ("mask",))[0],)
        elif len(set(segments)) < len(segments):
            raise PipelineError("the inputs have segments of the same name", key="of")
        return ValueType(
            kind=Kind.LABEL_MAP,
            on_source_grid=all(given.on_source_grid for given in inputs),
            segments=segments,
        )

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        maps = [value_of(given, LabelMap) for given in inputs]
        for other in maps[1:]:
            expect_same_grid(maps[0], other)
        if self.how == "stack":
            labels, segments = _stacked(maps)
        else:
            labels, segments = self._joined(maps), (self.segment or maps[0].segments[0],)
        notes = tuple(dict.fromkeys(note for given in maps for note in given.notes))
        return LabelMap(
            labels=labels, affine=maps[0].affine, segments=segments, source=maps[0].source, notes=notes
        )

    def _joined(self, maps: Sequence[LabelMap]) -> NDArray[np.uint8]:
        mask: Mask = maps[0].labels != 0
        for other in maps[1:]:
            if self.how == "or":
                mask |= other.labels != 0
            elif self.how == "and":
                mask &= other.labels != 0
            else:
                mask &= other.labels == 0
        return mask.astype(np.uint8)


def _stacked(maps: Sequence[LabelMap]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    labels = maps[0].labels.copy()
    segments = maps[0].segments
    for other in maps[1:]:
        free = (labels == 0) & (other.labels != 0)
        labels[free] = other.labels[free] + np.uint8(len(segments))
        segments += other.segments
    return labels, segments

"""Run an ONNX network over a volume: whole, slice by slice, or in a sliding window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, expect_unit, value_of
from models.operators.network_runs import NetworkRuns
from models.operators.walk import Walk
from models.values import ONE, Kind, ProbabilityMap, Value, ValueType, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Operator):
    """Volume -> ProbabilityMap on the same grid.

    graph: digest of the ONNX graph; variant: digest of named tensors that replace defaults of the graph
    (empty: none). input: name of the graph's image input; output: which of its outputs.
    mode: `whole` feeds [1, 1, slices, rows, columns]; `slices` feeds [n, 1, rows, columns], `batch` slices
    a time; `sliding_window` feeds [n, 1, *patch] with neighbours sharing `overlap` of a patch.
    multiple_of: sides of what is fed are padded at their end with `pad_value` to a multiple of this.
    mirror: axes; the result is the mean over what is fed as it is and mirrored along every choice of them.
    activation: applied here, to graphs that end in logits.
    segments: names of the classes. One more class in the output than names: class 0 is background; exactly
    one name and one class: the probability of that segment.
    unit: of the volume the network was trained on (UCUM); normalised volumes have none ("1").
    """

    name: ClassVar[str] = "network"
    file_parameters: ClassVar[tuple[str, ...]] = ("graph", "variant")
    graph: str
    variant: str = ""
    segments: tuple[str, ...]
    mode: Literal["whole", "slices", "sliding_window"] = "whole"
    input: str = "input"
    output: int = 0
    batch: int = 4
    patch: tuple[int, int, int] | None = None
    overlap: float = 0.5
    multiple_of: int = 1
    pad_value: float = 0.0
    mirror: tuple[Literal["slices", "rows", "columns"], ...] = ()
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    unit: str = ONE

    def __post_init__(self) -> None:
        if not self.graph:
            raise ValueError("graph must name an ONNX file")
        if not self.segments:
            raise ValueError("segments must name at least one class")
        if self.batch < 1 or self.multiple_of < 1:
            raise ValueError(f"{'batch' if self.batch < 1 else 'multiple_of'} must be 1 or more")
        if self.output < 0:
            raise ValueError("output must be 0 or more")
        if not 0 <= self.overlap < 1:
            raise ValueError("overlap must lie in 0 to below 1")
        if (self.patch is not None) != (self.mode == "sliding_window"):
            raise ValueError("patch belongs to mode: sliding_window, and to no other")
        if self.patch is not None and min(self.patch) < 1:
            raise ValueError("patch must be at least 1 by 1 by 1")
        if self.patch is not None and self.multiple_of > 1:
            raise ValueError("multiple_of has no use with a patch, whose size is fixed")
        if len(set(self.mirror)) < len(self.mirror):
            raise ValueError("mirror names an axis twice")
        if self.mode == "slices" and "slices" in self.mirror:
            raise ValueError("mirror cannot be along slices with mode: slices, which sees one at a time")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME)
        expect_unit(inputs[0], self.unit)
        return ValueType(kind=Kind.PROBABILITY_MAP, segments=self.segments)

    def blobs(self) -> tuple[str, ...]:
        return (self.graph, self.variant) if self.variant else (self.graph,)

    def members(self) -> tuple[tuple[str, str], ...]:
        """(graph, variant) of each network whose mean this is."""
        return ((self.graph, self.variant),)

    def walk(self) -> Walk:
        """How the volume is fed."""
        return Walk(
            mode=self.mode,
            batch=self.batch,
            patch=self.patch,
            overlap=self.overlap,
            multiple_of=self.multiple_of,
            pad_value=self.pad_value,
            mirror=self.mirror,
        )

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        return computed_together([self], inputs, context)[0]


def computed_together(
    operators: Sequence[Network], inputs: Sequence[Value], context: KernelContext
) -> list[ProbabilityMap]:
    """The results of operators with equal walks over one input: every tile is made once, and what their
    networks have in common is computed once. Bit for bit as one by one where the same sessions run."""
    volume = value_of(inputs[0], Volume)
    (walk,) = {operator.walk() for operator in operators}
    results = walk.over(volume.voxels, NetworkRuns(operators, context.resources))
    return [
        ProbabilityMap(values=values, affine=volume.affine, segments=operator.segments, notes=volume.notes)
        for operator, values in zip(operators, results, strict=True)
    ]

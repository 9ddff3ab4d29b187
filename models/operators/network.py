"""Run an ONNX network over a volume: whole, slice by slice, or in a sliding window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.base import KernelContext, NetworkSession, Operator
from models.operators.edges import expect, expect_unit, value_of
from models.operators.tiles import Patch, in_tiles
from models.values import ONE, Kind, ProbabilityMap, Value, ValueType, Volume

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Operator):
    """Volume -> ProbabilityMap on the same grid.

    graph: digest of the ONNX graph; variant: digest of named tensors that replace defaults of the graph
    (empty: none). input: name of the graph's image input; output: which of its outputs.
    mode: `whole` feeds [1, 1, slices, rows, columns]; `slices` feeds [n, 1, rows, columns], `batch` slices
    a time; `sliding_window` feeds [n, 1, *patch] with neighbours sharing `overlap` of a patch.
    multiple_of: sides of what is fed are padded at their end with `pad_value` to a multiple of this.
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

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME)
        expect_unit(inputs[0], self.unit)
        return ValueType(kind=Kind.PROBABILITY_MAP, segments=self.segments)

    def blobs(self) -> tuple[str, ...]:
        return (self.graph, self.variant) if self.variant else (self.graph,)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        run = _Run(self, context)
        if self.mode == "slices":
            values = self._by_slices(volume.voxels, run)
        elif self.patch is not None:
            values = self._in_window(volume.voxels, self.patch, run)
        else:
            padded = padded_to(volume.voxels, self.multiple_of, 3, self.pad_value)
            values = _cut(run(padded[None, None])[0], volume.shape)
        return ProbabilityMap(values=values, affine=volume.affine, segments=self.segments, notes=volume.notes)

    def _by_slices(self, voxels: Array, run: "_Run") -> Array:
        slices, rows, columns = voxels.shape
        values: Array | None = None
        for start in range(0, slices, self.batch):
            part = padded_to(voxels[start : start + self.batch], self.multiple_of, 2, self.pad_value)
            result = run(part[:, None])[:, :, :rows, :columns]
            if values is None:
                values = np.empty((result.shape[1], slices, rows, columns), np.float32)
            values[:, start : start + self.batch] = result.swapaxes(0, 1)
        assert values is not None  # a volume has slices
        return values

    def _in_window(self, voxels: Array, patch: Patch, run: "_Run") -> Array:
        return in_tiles(
            voxels,
            run,
            patch=patch,
            overlap=self.overlap,
            batch=self.batch,
            pad_value=self.pad_value,
        )


class _Run:
    """The network with its variant's tensors: float32[n, 1, ...] -> float32[n, classes, ...], activated."""

    def __init__(self, network: Network, context: KernelContext) -> None:
        self._network = network
        self._session: NetworkSession = context.resources.network(network.graph)
        self._variant: Mapping[str, NDArray[Any]] = (
            context.resources.parameters(network.variant) if network.variant else {}
        )

    def __call__(self, fed: Array) -> Array:
        fed = np.ascontiguousarray(fed, np.float32)
        outputs = self._session.run({**self._variant, self._network.input: fed})
        if self._network.output >= len(outputs):
            raise KernelError(f"the graph has {len(outputs)} outputs, and no number {self._network.output}")
        result = np.asarray(outputs[self._network.output], np.float32)
        names = len(self._network.segments)
        expected = (len(fed), *fed.shape[2:])
        if (result.shape[0], *result.shape[2:]) != expected:
            raise KernelError(f"fed {fed.shape}, the graph gave {result.shape}")
        if result.shape[1] != names + 1 and not result.shape[1] == names == 1:
            raise KernelError(f"the graph has {result.shape[1]} classes, which {names} segments do not fit")
        return activated(result, self._network.activation)


def activated(logits: Array, activation: Literal["none", "sigmoid", "softmax"]) -> Array:
    """Probabilities from float32[n, classes, ...], over axis 1 for softmax."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def padded_to(voxels: Array, multiple: int, axes: int, value: float) -> Array:
    """`voxels` with its last `axes` axes padded at their end to a multiple."""
    if multiple == 1:
        return voxels
    padding = [(0, 0)] * (voxels.ndim - axes) + [(0, -size % multiple) for size in voxels.shape[-axes:]]
    return np.pad(voxels, padding, constant_values=value)


def _cut(values: Array, shape: tuple[int, int, int]) -> Array:
    slices, rows, columns = shape
    return np.ascontiguousarray(values[:, :slices, :rows, :columns])

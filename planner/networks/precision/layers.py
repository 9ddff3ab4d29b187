"""Layers whose precision can be chosen: convolutions with constant filters, and what scales their output."""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.networks.building.editing import other_input
from planner.networks.building.lift import Lifted
from planner.networks.structure import Op

Level: TypeAlias = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution: `filter` and `bias` with the constant scale and offset behind it folded in.

    name: the value it gives, after `ops` (the convolution, then the folded Mul and Add).
    filter: float32, [out, in / groups, *kernel], for ConvTranspose [in, out / groups, *kernel].
    bias: float32[out]. out_axis: of `filter`.
    """

    name: str
    source: str
    ops: tuple[Op, ...]
    filter: NDArray[np.float32]
    bias: NDArray[np.float32]
    out_axis: int

    @property
    def conv(self) -> Op:
        return self.ops[0]

    def per_channel(self, values: NDArray[Any]) -> NDArray[Any]:
        """[out] shaped to multiply the filter."""
        return values.reshape([-1 if axis == self.out_axis else 1 for axis in range(self.filter.ndim)])


def layers_of(stage: Lifted) -> tuple[Layer, ...]:
    """In order of computation. ConvTranspose in groups is left out: its channels lie across two axes."""
    consumers = stage.structure.consumers()
    outputs = {port.name for port in stage.structure.outputs}
    found = []
    for op in stage.structure.ops:
        if op.domain or op.type not in ("Conv", "ConvTranspose"):
            continue
        numbers = stage.tensors.get(op.inputs[1])
        bias = stage.tensors.get(op.inputs[2]) if len(op.inputs) > 2 and op.inputs[2] else None
        unknown_bias = len(op.inputs) > 2 and bool(op.inputs[2]) and bias is None
        grouped = op.type == "ConvTranspose" and op.attributes.get("group", 1) != 1
        if numbers is None or numbers.dtype != np.float32 or unknown_bias or grouped:
            continue
        found.append(_with_affine(stage, op, numbers, bias, consumers, outputs))
    return tuple(found)


def multiplications(layer: Layer, places: int) -> int:
    """Per item: places are the output's (Conv) or the input's (ConvTranspose)."""
    return int(prod(layer.filter.shape)) * places


def _with_affine(
    stage: Lifted,
    op: Op,
    numbers: NDArray[Any],
    bias: NDArray[Any] | None,
    consumers: dict[str, tuple[Op, ...]],
    outputs: set[str],
) -> Layer:
    out_axis = 0 if op.type == "Conv" else 1
    channels = numbers.shape[out_axis]
    scale = np.ones(channels)
    offset = np.zeros(channels) if bias is None else bias.astype(np.float64)
    ops, name = [op], op.outputs[0]
    for kind in ("Mul", "Add"):
        uses = consumers.get(name, ())
        if (
            name in outputs
            or len(uses) != 1
            or uses[0].type != kind
            or uses[0].inputs[0] == uses[0].inputs[1]
        ):
            continue
        constant = stage.tensors.get(other_input(uses[0], name))
        if constant is None or not _per_channel(constant.shape, channels, numbers.ndim):
            continue
        values = constant.reshape(-1).astype(np.float64)
        scale, offset = (scale * values, offset * values) if kind == "Mul" else (scale, offset + values)
        ops.append(uses[0])
        name = uses[0].outputs[0]
    shape = [-1 if axis == out_axis else 1 for axis in range(numbers.ndim)]
    return Layer(
        name,
        op.inputs[0],
        tuple(ops),
        np.asarray(numbers * scale.reshape(shape), np.float32),
        offset.astype(np.float32),
        out_axis,
    )


def _per_channel(shape: tuple[int, ...], channels: int, axes: int) -> bool:
    """Whether [C, 1, 1 ...] or [1, C, 1, 1 ...]."""
    whole = (1,) * (axes - len(shape)) + tuple(shape)
    return len(whole) == axes and whole[1] == channels and prod(whole) == channels

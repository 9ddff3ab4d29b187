"""Filters: learned tensors that a convolution or matrix product multiplies with, and their channels."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.structure import Op, Structure


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter in C order, seen as [groups, rows, columns, taps]; its channels are groups x columns.

    Conv [out, in, ...] is (out, 1, 1, in x taps); ConvTranspose [in, out / g, ...] is (g, in / g, out / g,
    taps); a matrix [in, out] is (1, in, out, 1) and [out, in] is (out, 1, 1, in).
    """

    name: str
    view: tuple[int, int, int, int]
    factors: tuple[str, ...]
    """Tensors that multiply the outputs, channel by channel, one for each use; empty if one is missing."""

    @property
    def channels(self) -> int:
        return self.view[0] * self.view[2]

    @property
    def per_channel(self) -> int:
        """Numbers in one channel."""
        return self.view[1] * self.view[3]

    def by_channel(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """[channels, numbers of one channel]; a copy where channels do not lie together."""
        return tensor.reshape(self.view).transpose(0, 2, 1, 3).reshape(self.channels, self.per_channel)

    def places(self, channels: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the n-th number of a channel lies in the flat tensor; both broadcast."""
        _, rows, columns, taps = self.view
        group, column = np.divmod(channels, columns)
        row, tap = np.divmod(numbers, taps)
        return ((group * rows + row) * columns + column) * taps + tap


def filters_of(structure: Structure) -> dict[str, Filter]:
    """The filters of a structure by name, in canonical order. Tensors used in two ways are none."""
    consumers = structure.consumers()
    outputs = {port.name for port in structure.outputs}
    found = {}
    for name in structure.tensor_names():
        shape = structure.tensors[name].shape
        uses = consumers.get(name, ())
        views = {_view(op, name, shape) for op in uses}
        view = views.pop() if len(views) == 1 else None
        if view is not None and min(view) > 0:
            factors = [_factor(op, view, structure, consumers, outputs) for op in uses]
            found[name] = Filter(name, view, tuple(factors) if all(factors) else ())
    return found


def _view(op: Op, name: str, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    if op.domain or len(op.inputs) < 2 or op.inputs[1] != name or op.inputs[0] == name:
        return None
    if op.type == "Conv" and len(shape) > 2:
        return (shape[0], 1, 1, prod(shape[1:]))
    if op.type == "ConvTranspose" and len(shape) > 2:
        groups = int(op.attributes.get("group", 1))
        return (groups, shape[0] // groups, shape[1], prod(shape[2:])) if shape[0] % groups == 0 else None
    if op.type == "Gemm" and op.attributes.get("transB", 0):
        return (shape[0], 1, 1, shape[1])
    if op.type in ("Gemm", "MatMul") and len(shape) == 2:
        return (1, shape[0], shape[1], 1)
    return None


def _factor(
    op: Op,
    view: tuple[int, int, int, int],
    structure: Structure,
    consumers: dict[str, tuple[Op, ...]],
    outputs: set[str],
) -> str:
    """The tensor that multiplies the channels of this op's output, and nothing else; "" if there is none."""
    output = op.outputs[0]
    readers = consumers.get(output, ())
    if len(op.inputs) > 2 and op.inputs[2]:  # a bias inside would have to be scaled as well
        return ""
    if output in outputs or len(readers) != 1 or readers[0].type != "Mul" or readers[0].domain:
        return ""
    names = [name for name in readers[0].inputs if name != output]
    if len(names) != 1 or names[0] not in structure.tensors or len(consumers[names[0]]) != 1:
        return ""
    found = structure.tensors[names[0]]
    trailing = 0 if op.type in ("Gemm", "MatMul") else len(structure.tensors[op.inputs[1]].shape) - 2
    channels = view[0] * view[2]
    last_axes = (channels,) + (1,) * trailing
    fits = found.shape[-len(last_axes) :] == last_axes and prod(found.shape) == channels
    return names[0] if fits and found.dtype == "float32" else ""

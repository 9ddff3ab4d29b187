"""Networks as they are after opening, built by hand: every convolution followed by its factor and its bias.

unet(3)                    seeded; unet(3, norms=4): the same filters, other factors and biases
unet(3, norms=4, folded=True)    the same function as without: the factors are in the filters
changed(opened, "t3", array)     with one tensor replaced
"""

import dataclasses
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.structure import Op, Opened, Port, Structure, TensorType

Array = NDArray[Any]


def unet(
    seed: int,
    channels: Sequence[int] = (8, 32, 64),
    *,
    norms: int = 0,
    folded: bool = False,
    classes: int = 3,
) -> Opened:
    """A 2D U-Net, `x0` float32[n, 1, rows, columns] -> `y0` float32[n, classes, rows, columns].

    Sides must be multiples of 2 ** (len(channels) - 1). (32, 64, 128, 256, 512) has 7.8 M parameters. The
    transposed convolutions and the head have biases only. Some factors are negative.
    """
    net = Canonical(seed, norms, folded=folded)
    value, width, skips = "x0", 1, []
    for level, wide in enumerate(channels):
        if level:
            value = net.op("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])
        value = net.convolution(net.convolution(value, width, wide), wide, wide)
        width = wide
        skips.append(value)
    for wide, skip in zip(channels[-2::-1], skips[-2::-1], strict=True):
        value = net.transposed(value, width, wide)
        value = net.op("Concat", [value, skip], axis=1)
        value = net.convolution(net.convolution(value, 2 * wide, wide), wide, wide)
        width = wide
    value = net.affine(net.op("Conv", [value, net.filters((classes, width, 1, 1))]), classes, plain=True)
    return net.opened(value, classes)


def changed(opened: Opened, name: str, array: Array) -> Opened:
    """The network with another tensor in one place, in float32."""
    return dataclasses.replace(
        opened, tensors={**opened.tensors, name: np.ascontiguousarray(array, np.float32)}
    )


class Canonical:
    """Builds a structure op by op."""

    def __init__(self, seed: int, norms: int, *, folded: bool = False) -> None:
        self._filters = np.random.default_rng(seed)
        self._norms = np.random.default_rng([norms, 17])
        self._folded = folded
        self._ops: list[Op] = []
        self._tensors: dict[str, Array] = {}
        self.scale: Array = np.ones(0)

    def op(self, type_: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = f"v{len(self._ops)}"
        self._ops.append(Op(type_, tuple(inputs), (output,), attributes))
        return output

    def tensor(self, array: Array) -> str:
        name = f"t{len(self._tensors)}"
        self._tensors[name] = np.ascontiguousarray(array, np.float32)
        return name

    def filters(self, shape: tuple[int, ...], axis: int = 0) -> str:
        """Seeded filters; the factors of the next `affine` are drawn here, as they may be folded in."""
        self.scale = self._norms.uniform(0.5, 1.5, shape[axis]) * self._norms.choice(
            [1, 1, 1, -1], shape[axis]
        )
        array = self._filters.normal(0, np.sqrt(2 / (prod(shape) / shape[axis])), shape).astype(np.float32)
        return self.tensor(array)

    def convolution(self, value: str, width: int, wide: int) -> str:
        filters = self.filters((wide, width, 3, 3))
        if self._folded:
            self.fold(filters, 0)
        value = self.op("Conv", [value, filters], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return self.op("Relu", [self.affine(value, wide, plain=self._folded)])

    def transposed(self, value: str, width: int, wide: int) -> str:
        filters = self.filters((width, wide, 2, 2), 1)
        if self._folded:
            self.fold(filters, 1)
        value = self.op("ConvTranspose", [value, filters], kernel_shape=[2, 2], strides=[2, 2])
        return self.affine(value, wide, plain=self._folded)

    def affine(self, value: str, wide: int, *, plain: bool) -> str:
        factors = np.ones(wide) if plain else self.scale
        value = self.op("Mul", [value, self.tensor(factors.reshape(-1, 1, 1))])
        return self.op("Add", [value, self.tensor(self._norms.normal(0, 0.2, (wide, 1, 1)))])

    def opened(self, value: str, classes: int) -> Opened:
        last = self._ops.pop()
        assert last.outputs == (value,)
        self._ops.append(Op(last.type, last.inputs, ("y0",), last.attributes))
        structure = Structure(
            opset=17,
            inputs=(Port("x0", "float32", ("n", 1, "rows", "columns")),),
            outputs=(Port("y0", "float32", ("n", classes, "rows", "columns")),),
            tensors={name: TensorType("float32", array.shape) for name, array in self._tensors.items()},
            constants={},
            ops=tuple(self._ops),
        )
        return Opened(structure, self._tensors, ("input",), ("logits",))

    def fold(self, name: str, axis: int) -> None:
        shape = [1] * self._tensors[name].ndim
        shape[axis] = -1
        scale = self.scale.astype(np.float32).reshape(shape)
        self._tensors[name] = self._tensors[name] * scale


def same_bits(one: dict[str, np.ndarray], other: Opened) -> bool:
    """Whether these are the very tensors of a network."""
    return one.keys() == other.tensors.keys() and all(
        one[name].tobytes() == other.tensors[name].tobytes() for name in one
    )

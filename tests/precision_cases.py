"""Two small networks for tests of precision, images for them, and the labels of what they give."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from planner.networks.structure import Opened
from tests.canonical_cases import opened_as
from tests.written_graphs import Array, model_of, node


def filters(draw: np.random.Generator, *shape: int) -> Array:
    return np.asarray(draw.normal(size=shape) / np.sqrt(np.prod(shape[1:])))


def opened_in_float32(
    nodes: Sequence[onnx.NodeProto], tensors: Mapping[str, Array], shape: Sequence[int | str]
) -> Opened:
    single = {name: np.asarray(array, np.float32) for name, array in tensors.items()}
    with TemporaryDirectory() as folder:
        return opened_as(model_of(nodes, single, shape=shape), Path(folder))


@cache
def small_unet() -> Opened:
    """2D: normalisation, pooling, two ways up, concatenation, a strided and a transposed convolution."""
    draw = np.random.default_rng(7)
    tensors = {
        "w0": filters(draw, 8, 1, 3, 3),
        "s": draw.random(8) + 0.5,
        "b": draw.normal(size=8) * 0.1,
        "m": draw.normal(size=8) * 0.1,
        "v": draw.random(8) + 0.5,
        "w1": filters(draw, 16, 8, 3, 3),
        "b1": draw.normal(size=16) * 0.1,
        "w2": filters(draw, 16, 8, 2, 2),
        "w3": filters(draw, 3, 16, 1, 1),
        "b3": np.zeros(3),
        "scales": np.array([1, 1, 2, 2]),
        "w4": filters(draw, 8, 8, 3, 3),
    }
    nodes = [
        node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n0"]),
        node("Relu", ["n0"], ["r0"]),
        node("MaxPool", ["r0"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("ConvTranspose", ["r1", "w2"], ["up"], strides=[2, 2]),
        node("Conv", ["r0", "w4"], ["down"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Resize", ["down", "", "scales"], ["wide"], mode="nearest"),
        node("Concat", ["up", "wide"], ["both"], axis=1),
        node("Conv", ["both", "w3", "b3"], ["y"]),
    ]
    return opened_in_float32(nodes, tensors, ("n", 1, "a", "b"))


@cache
def dilated_network() -> Opened:
    """3D: dilated convolutions with Elu, as the brain networks have."""
    draw = np.random.default_rng(8)
    tensors: dict[str, Array] = {}
    nodes, value = [], "x"
    for number, gap in enumerate((1, 2, 1)):
        tensors[f"w{number}"] = filters(draw, 6, 1 if number == 0 else 6, 3, 3, 3) * 1.5
        tensors[f"b{number}"] = draw.normal(size=6) * 0.2
        operands = [value, f"w{number}", f"b{number}"]
        nodes.append(node("Conv", operands, [f"c{number}"], pads=[gap] * 6, dilations=[gap] * 3))
        nodes.append(node("Elu", [f"c{number}"], [f"e{number}"]))
        value = f"e{number}"
    tensors["w"], tensors["bias"] = filters(draw, 3, 6, 1, 1, 1), np.array([0.1, 0.0, -0.1])
    nodes.append(node("Conv", [value, "w", "bias"], ["y"]))
    return opened_in_float32(nodes, tensors, ("n", 1, "a", "b", "c"))


def images(count: int, shape: tuple[int, ...], seed: int = 9) -> list[dict[str, Array]]:
    draw = np.random.default_rng(seed)
    return [{"x0": draw.random((1, 1, *shape), np.float32)} for _ in range(count)]


def largest(outputs: list[Array]) -> Array:
    return np.asarray(outputs[0].argmax(axis=1))


SHAPES = {"unet": (32, 48), "dilated": (12, 14, 16)}
NETWORKS = {"unet": small_unet, "dilated": dilated_network}


def affine_tensors(network: Opened) -> list[str]:
    """The scales and offsets behind the first convolution."""
    uses = [op for op in network.structure.ops if op.type in ("Mul", "Add")]
    return [next(name for name in op.inputs if name in network.structure.tensors) for op in uses[:2]]

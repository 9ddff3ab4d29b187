"""A U-Net of 7.8 million parameters and its site variants, as ONNX files: what benches of families import.

Weights are random but alive: filters are scaled to keep the variance of what passes, and normalisations are
near what training leaves, so that every layer matters to the output.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx.utils
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
CHANNELS = (32, 64, 128, 256, 512)
INPUT, OUTPUT = "image", "logits"
CLASSES = 2
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Norm:
    """One batch normalisation, in inference: float32[channels] each."""

    scale: Array
    bias: Array
    mean: Array
    var: Array

    def factor(self) -> NDArray[np.float64]:
        return self.scale / np.sqrt(self.var.astype(np.float64) + _EPSILON)


@dataclass(slots=True)
class _Writer:
    nodes: list[Any] = field(default_factory=list)
    initialisers: list[Any] = field(default_factory=list)

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def tensor(self, name: str, array: NDArray[Any]) -> str:
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name


class Base:
    """The filters that all variants share. Equal seeds, equal filters."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS, seed: int = 0) -> None:
        self.channels = channels
        self._random = np.random.default_rng(seed)
        self.filters: dict[str, Array] = {}
        before = 1
        for level, width in enumerate(channels):
            self._block(f"down{level}", before, width)
            before = width
        for level in reversed(range(len(channels) - 1)):
            width = channels[level]
            self._filter(f"up{level}.larger", (before, width, 2, 2), before)
            self._block(f"up{level}", 2 * width, width)
            before = width
        self._filter("head", (CLASSES, before, 1, 1), before)

    def parameters(self) -> int:
        """How many numbers the filters have."""
        return sum(array.size for array in self.filters.values())

    def norms(self, variant: int) -> dict[str, Norm]:
        """The normalisations of one variant: a few percent around the base's."""
        own = np.random.default_rng((17, variant))
        return {name: _norm(own, self.filters[name].shape[0]) for name in self._normalised()}

    def model(self, variant: int, *, folded: bool) -> onnx.ModelProto:
        """The network of a variant; folded: with its normalisations multiplied into the filters."""
        writer, norms = _Writer(), self.norms(variant)

        def block(value: str, name: str) -> str:
            for part in (f"{name}.0", f"{name}.1"):
                weights, norm = self.filters[part], norms[part]
                if folded:
                    factor = norm.factor()
                    bias = writer.tensor(f"{part}.bias", norm.bias - norm.mean * factor)
                    weights = np.asarray(weights * factor[:, None, None, None], np.float32)
                    inputs = [value, writer.tensor(f"{part}.weight", weights), bias]
                    value = writer.add("Conv", inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
                else:
                    inputs = [value, writer.tensor(f"{part}.weight", weights)]
                    value = writer.add("Conv", inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
                    tensors = {"scale": norm.scale, "bias": norm.bias, "mean": norm.mean, "var": norm.var}
                    named = [writer.tensor(f"{part}.{word}", array) for word, array in tensors.items()]
                    value = writer.add("BatchNormalization", [value, *named], epsilon=_EPSILON)
                value = writer.add("Relu", [value])
            return value

        value, skips = INPUT, []
        for level in range(len(self.channels)):
            if level:
                value = writer.add("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])
            value = block(value, f"down{level}")
            skips.append(value)
        for level in reversed(range(len(self.channels) - 1)):
            weights = writer.tensor(f"up{level}.larger", self.filters[f"up{level}.larger"])
            value = writer.add("ConvTranspose", [value, weights], kernel_shape=[2, 2], strides=[2, 2])
            value = writer.add("Concat", [value, skips[level]], axis=1)
            value = block(value, f"up{level}")
        head = writer.tensor("head", self.filters["head"])
        writer.nodes.append(helper.make_node("Conv", [value, head], [OUTPUT], kernel_shape=[1, 1]))
        float32 = TensorProto.FLOAT
        graph = helper.make_graph(
            writer.nodes,
            "unet",
            [helper.make_tensor_value_info(INPUT, float32, ["n", 1, "rows", "columns"])],
            [helper.make_tensor_value_info(OUTPUT, float32, ["n", CLASSES, "rows", "columns"])],
            writer.initialisers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model

    def apart(self, variant: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """Encoder and decoder (with the head) as models of their own; names of what crosses are equal."""
        model = onnx.shape_inference.infer_shapes(self.model(variant, folded=False))
        skips = [node.input[0] for node in model.graph.node if node.op_type == "MaxPool"]
        lowest = next(node.input[0] for node in model.graph.node if node.op_type == "ConvTranspose")
        extract = onnx.utils.Extractor(model).extract_model
        crossing = [*skips, lowest]
        return extract([INPUT], crossing), extract(crossing, [OUTPUT])

    def write(self, variant: int, path: Path, *, folded: bool) -> Path:
        """Write the file of a variant."""
        path.write_bytes(self.model(variant, folded=folded).SerializeToString())
        return path

    def delta_bytes(self) -> int:
        """What distinguishes one variant from another: a factor and an offset for each normalised channel."""
        return sum(2 * 4 * self.filters[name].shape[0] for name in self._normalised())

    def _normalised(self) -> Iterator[str]:
        return (name for name in self.filters if name.endswith((".0", ".1")))

    def _block(self, name: str, before: int, width: int) -> None:
        self._filter(f"{name}.0", (width, before, 3, 3), 9 * before)
        self._filter(f"{name}.1", (width, width, 3, 3), 9 * width)

    def _filter(self, name: str, shape: tuple[int, ...], fan_in: int) -> None:
        values = self._random.standard_normal(shape) * np.sqrt(2 / fan_in)
        self.filters[name] = values.astype(np.float32)


def _norm(random: np.random.Generator, channels: int) -> Norm:
    def around(centre: float, spread: float) -> Array:
        return np.asarray(centre + spread * random.standard_normal(channels), np.float32)

    return Norm(around(1.0, 0.05), around(0.0, 0.05), around(0.0, 0.05), np.abs(around(1.0, 0.05)))

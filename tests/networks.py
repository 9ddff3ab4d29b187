"""Networks for tests, built in code: seeded weights, no file. Equal arguments give equal models.

unet(3)                                      a small 2D U-Net with BatchNormalization
unet(3, norm="folded")                       the same function, normalisation folded into the filters
unet(3, norm_seed=7)                         the same filters, other normalisation: a site's variant
unet(3, decoder_seed=8), unet(3, head_seed=9)    the same encoder; the same all but the last convolution
low_rank_variant(unet(3), 1), sparse_variant(unet(3), 1)    every large filter changed a little
private_variant(unet(3, (16, 32, 64)), 1)    one large filter is another one
run(model, image(model, 0, size=32))         outputs of plain onnxruntime
saved(folder, model)                         its file
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Norm = Literal["batch", "folded", "instance", "none"]
AXES = ("slices", "rows", "columns")
EPSILON = 1e-5


def unet(
    seed: int,
    channels: Sequence[int] = (8, 16),
    norm: Norm = "batch",
    dims: int = 2,
    *,
    classes: int = 3,
    up: Literal["transpose", "resize"] = "transpose",
    norm_seed: int | None = None,
    decoder_seed: int | None = None,
    head_seed: int | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A U-Net: `input` float32[n, 1, spatial ...] -> `logits` float32[n, classes, spatial ...], logits.

    channels: of the levels, from full resolution down; sides must be multiples of 2 ** (len(channels) - 1).
    Each level is twice (convolution 3, normalisation, ReLU). (32, 64, 128, 256, 512) has 7.8 M parameters.
    norm: `folded` is the function of `batch` with its numbers folded into filters and biases; `none` has
    biases only. seed: of the filters; norm_seed, decoder_seed, head_seed: of a part, where it is to differ.
    """
    net = _Builder(seed, norm, dims, norm_seed)
    value, skips = "input", []
    for level, width in enumerate(channels):
        if level:
            value = net.node("MaxPool", [value], f"pool{level}", kernel_shape=[2] * dims, strides=[2] * dims)
        value = net.twice(value, 1 if level == 0 else channels[level - 1], width, f"down{level}")
        skips.append(value)
    if decoder_seed is not None:
        net.reseed(decoder_seed)
    for level in reversed(range(len(channels) - 1)):
        below, width = channels[level + 1], channels[level]
        if up == "transpose":
            filters = net.tensor(f"up{level}.weight", (below, width, *[2] * dims))
            bias = net.tensor(f"up{level}.bias", (width,))
            sides = {"kernel_shape": [2] * dims, "strides": [2] * dims}
            value = net.node("ConvTranspose", [value, filters, bias], f"up{level}", **sides)
            joined = 2 * width
        else:
            scales = net.given(f"up{level}.scales", np.array([1, 1, *[2] * dims], np.float32))
            ways = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            value = net.node("Resize", [value, "", scales], f"up{level}", mode="nearest", **ways)
            joined = below + width
        value = net.node("Concat", [value, skips[level]], f"joined{level}", axis=1)
        value = net.twice(value, joined, width, f"up{level}")
    if head_seed is not None:
        net.reseed(head_seed)
    head = net.tensor("head.weight", (classes, channels[0], *[1] * dims))
    net.node("Conv", [value, head, net.tensor("head.bias", (classes,))], "logits", kernel_shape=[1] * dims)
    return net.model("logits", classes, opset)


def meshnet(
    seed: int,
    channels: int = 5,
    classes: int = 3,
    *,
    dilations: Sequence[int] = (1, 2, 4, 2, 1),
    activation: Literal["Relu", "Elu"] = "Relu",
    norm: Norm = "none",
    norm_seed: int | None = None,
    head_seed: int | None = None,
    dims: int = 3,
    opset: int = 17,
) -> onnx.ModelProto:
    """A MeshNet: dilated convolutions that keep the size, then one of 1x1x1 to the classes. See `unet`."""
    net = _Builder(seed, norm, dims, norm_seed)
    value = "input"
    for place, dilation in enumerate(dilations):
        width = 1 if place == 0 else channels
        value = net.convolution(value, width, channels, f"conv{place}", dilation)
        value = net.node(activation, [value], f"act{place}")
    if head_seed is not None:
        net.reseed(head_seed)
    head = net.tensor("head.weight", (classes, channels, *[1] * dims))
    net.node("Conv", [value, head, net.tensor("head.bias", (classes,))], "logits", kernel_shape=[1] * dims)
    return net.model("logits", classes, opset)


def encoder_decoder(
    encoder_seed: int, decoder_seed: int, channels: Sequence[int] = (8, 16), **options: Any
) -> onnx.ModelProto:
    """A U-Net whose encoder and decoder have seeds of their own: one backbone under several decoders."""
    return unet(encoder_seed, channels, decoder_seed=decoder_seed, **options)


def low_rank_variant(
    model: onnx.ModelProto, seed: int, rank: int = 2, magnitude: float = 0.05
) -> onnx.ModelProto:
    """The network with a product of two thin matrices added to every filter of 4096 elements or more.

    magnitude: of the change's norm, relative to the filter's.
    """
    numbers = np.random.default_rng(seed)

    def changed(filters: Array) -> Array:
        rows, columns = filters.shape[0], filters.size // filters.shape[0]
        change = numbers.normal(size=(rows, rank)) @ numbers.normal(size=(rank, columns))
        change *= magnitude * np.linalg.norm(filters) / np.linalg.norm(change)
        return np.asarray(filters + change.reshape(filters.shape), np.float32)

    return _with_large_filters(model, changed)


def sparse_variant(model: onnx.ModelProto, seed: int, share: float = 0.01) -> onnx.ModelProto:
    """The network with other numbers in this share of the places of every filter of 4096 elements or more."""
    numbers = np.random.default_rng(seed)

    def changed(filters: Array) -> Array:
        result = filters.copy()
        places = numbers.choice(filters.size, max(1, int(share * filters.size)), replace=False)
        result.reshape(-1)[places] += numbers.normal(0, float(filters.std()) + 1e-3, len(places))
        return result

    return _with_large_filters(model, changed)


def private_variant(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The network with other numbers throughout its smallest filter of 4096 elements or more."""
    numbers = np.random.default_rng(seed)
    sizes = [int(np.prod(tensor.dims)) for tensor in model.graph.initializer if len(tensor.dims) > 1]
    smallest = min((size for size in sizes if size >= 4096), default=0)
    left = iter([True])

    def changed(filters: Array) -> Array:
        if filters.size > smallest or not next(left, False):
            return filters
        return np.asarray(numbers.normal(0, filters.std(), filters.shape), np.float32)

    return _with_large_filters(model, changed)


def saved(folder: Path, model: onnx.ModelProto, name: str = "model") -> Path:
    """The model as `name`.onnx in the folder; one that is there already is replaced."""
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def image(model: onnx.ModelProto, seed: int, *, batch: int = 1, size: int = 16) -> dict[str, Array]:
    """Inputs of the network by name, normally distributed; free sizes become `batch` (axis 0) and `size`."""
    numbers = np.random.default_rng(seed)
    defaults = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for port in model.graph.input:
        if port.name in defaults:
            continue
        sides = [
            side.dim_value or (batch if axis == 0 else size)
            for axis, side in enumerate(port.type.tensor_type.shape.dim)
        ]
        feeds[port.name] = numbers.normal(size=sides).astype(np.float32)
    return feeds


def run(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> list[Array]:
    """Outputs of plain onnxruntime, one thread, in graph order."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    outputs: list[Array] = session.run(None, dict(feeds))
    return outputs


def largest_difference(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    """Of any output value, relative to the largest magnitude of that output."""
    assert len(ours) == len(theirs)
    return max(
        float(np.abs(a.astype(np.float64) - b).max() / max(float(np.abs(b).max()), 1e-30))
        for a, b in zip(ours, theirs, strict=True)
    )


class _Builder:
    def __init__(self, seed: int, norm: Norm, dims: int, norm_seed: int | None) -> None:
        self._filters = np.random.default_rng(seed)
        self._norms = np.random.default_rng(seed + 1_000_003 if norm_seed is None else norm_seed)
        self._norm, self._dims = norm, dims
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, NDArray[Any]] = {}

    def reseed(self, seed: int) -> None:
        """From here on filters and normalisation follow this seed."""
        self._filters = np.random.default_rng(seed + 2_000_003)
        self._norms = np.random.default_rng(seed + 3_000_017)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def given(self, name: str, value: NDArray[Any]) -> str:
        self._tensors[name] = value
        return name

    def tensor(self, name: str, shape: tuple[int, ...]) -> str:
        """Filters of variance 2 / fan-in, or small biases."""
        deviation = 0.1 if len(shape) == 1 else float(np.sqrt(2 / np.prod(shape[1:])))
        return self.given(name, self._filters.normal(0, deviation, shape).astype(np.float32))

    def twice(self, value: str, width_in: int, width: int, name: str) -> str:
        for part in range(2):
            value = self.convolution(value, width if part else width_in, width, f"{name}.{part}")
            value = self.node("Relu", [value], f"{name}.{part}.relu")
        return value

    def convolution(self, value: str, width_in: int, width: int, name: str, dilation: int = 1) -> str:
        """Convolution 3 that keeps the size, and its normalisation."""
        shape = (width, width_in, *[3] * self._dims)
        self.tensor(f"{name}.weight", shape)
        inputs = [value, f"{name}.weight"]
        if self._norm == "none":
            inputs.append(self.tensor(f"{name}.bias", (width,)))
        numbers = self._norm_numbers(width)
        if self._norm == "folded":
            scale, bias, mean, variance = (numbers[word].astype(np.float64) for word in numbers)
            factor = scale / np.sqrt(variance + EPSILON)
            filters = self._tensors[f"{name}.weight"] * factor.reshape(-1, *[1] * (self._dims + 1))
            self.given(f"{name}.weight", filters.astype(np.float32))
            inputs.append(self.given(f"{name}.bias", (bias - mean * factor).astype(np.float32)))
        sides = {"kernel_shape": [3] * self._dims, "pads": [dilation] * (2 * self._dims)}
        value = self.node("Conv", inputs, name, dilations=[dilation] * self._dims, **sides)
        if self._norm in ("batch", "instance"):
            words = ("scale", "bias", "mean", "var") if self._norm == "batch" else ("scale", "bias")
            tensors = [self.given(f"{name}.norm.{word}", numbers[word]) for word in words]
            operator = "BatchNormalization" if self._norm == "batch" else "InstanceNormalization"
            value = self.node(operator, [value, *tensors], f"{name}.norm", epsilon=EPSILON)
        return value

    def _norm_numbers(self, width: int) -> dict[str, Array]:
        """Drawn whatever the normalisation is, so that networks of one seed correspond."""
        return {
            "scale": self._norms.uniform(0.5, 1.5, width).astype(np.float32),
            "bias": self._norms.normal(0, 0.2, width).astype(np.float32),
            "mean": self._norms.normal(0, 0.2, width).astype(np.float32),
            "var": self._norms.uniform(0.5, 1.5, width).astype(np.float32),
        }

    def model(self, output: str, classes: int, opset: int) -> onnx.ModelProto:
        axes = AXES[-self._dims :]
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width, *axes])
            for name, width in (("input", 1), (output, classes))
        ]
        tensors = [numpy_helper.from_array(value, name) for name, value in self._tensors.items()]
        graph = helper.make_graph(self._nodes, "network", ports[:1], ports[1:], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def _with_large_filters(model: onnx.ModelProto, changed: Any) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if len(tensor.dims) > 1 and np.prod(tensor.dims) >= 4096:
            filters = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(changed(filters), tensor.name))
    return result

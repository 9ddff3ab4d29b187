"""Networks that hypothesis draws: a recipe says which operators, and is written as one member or another.

written(recipe)                          the base
written(recipe, site=3)                  the same filters, other normalisation
written(recipe, site=3, folded=True)     the same function as without, normalisation in the filters
written(recipe, weights=5)               the same operators, other numbers throughout
in_other_words(model, 1)                 the same network as another exporter writes it
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
AXES = ("slices", "rows", "columns")
CLASSES = 3
EPSILON = 1e-5

ACTIVATIONS = ("Relu", "Elu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Clip", "PRelu", "Softmax", "")
NORMS = ("batch", "batch", "instance", "group", "")
UPWARDS = ("transpose", "nearest", "linear")


@dataclass(frozen=True, slots=True)
class Convolution:
    """One of `width` to `width` channels that keeps the size. groups 0: one for each channel."""

    kernel: int
    dilation: int
    groups: int
    bias: bool
    transposed: bool
    norm: str
    activation: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Adds, or joins, the value so many steps before."""

    back: int
    joined: bool


@dataclass(frozen=True, slots=True)
class Valley:
    """Down by 2, a convolution, and up again; joined: with what was there before."""

    strided: bool
    inside: Convolution
    up: str
    joined: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network `input` float32[n, 1, spatial ...] -> `logits`; sides must be multiples of 2."""

    dims: int
    width: int
    steps: tuple[Convolution | Skip | Valley, ...]
    opset: int
    seed: int


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    transposed = draw(st.integers(0, 5)) == 0
    return Convolution(
        kernel=3 if transposed else draw(st.sampled_from([1, 3, 3])),
        dilation=1 if transposed else draw(st.sampled_from([1, 1, 2, 4])),
        groups=1 if transposed else draw(st.sampled_from([1, 1, 1, 2, 0])),
        bias=draw(st.booleans()),
        transposed=transposed,
        norm=draw(st.sampled_from(NORMS)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
    )


VALLEYS = st.builds(
    Valley, strided=st.booleans(), inside=convolutions(), up=st.sampled_from(UPWARDS), joined=st.booleans()
)
SKIPS = st.builds(Skip, back=st.integers(1, 3), joined=st.booleans())


@st.composite
def recipes(draw: st.DrawFn, dims: Sequence[int] = (2, 3)) -> Recipe:
    """Widths are such that filters are small objects in some networks and large ones in others."""
    return Recipe(
        dims=draw(st.sampled_from(dims)),
        width=draw(st.sampled_from([4, 8, 24, 32])),
        steps=tuple(draw(st.lists(st.one_of(convolutions(), convolutions(), SKIPS, VALLEYS), max_size=5))),
        opset=draw(st.sampled_from([14, 17, 18, 21])),
        seed=draw(st.integers(0, 2**16)),
    )


def written(recipe: Recipe, *, site: int = 0, folded: bool = False, weights: int = 0) -> onnx.ModelProto:
    """The network. site: of its normalisations; weights: of everything else."""
    net = _Writer(recipe, site, folded, weights)
    stem = Convolution(
        kernel=3, dilation=1, groups=1, bias=True, transposed=False, norm="batch", activation="Relu"
    )
    values = [net.convolution("input", stem, width_in=1)]
    for step in recipe.steps:
        values.append(net.step(step, values))
    head = net.filters((CLASSES, recipe.width, *[1] * recipe.dims))
    net.add("Conv", [values[-1], head, net.tensor(net.numbers.normal(0, 0.1, CLASSES))], output="logits")
    return net.model()


class _Writer:
    def __init__(self, recipe: Recipe, site: int, folded: bool, weights: int) -> None:
        self.recipe, self.folded = recipe, folded
        self.numbers = np.random.default_rng([recipe.seed, weights])
        self.norms = np.random.default_rng([recipe.seed, weights, site])
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, Array] = {}

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def tensor(self, value: Array, dtype: Any = np.float32) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors[name] = np.asarray(value, dtype)
        return name

    def filters(self, shape: tuple[int, ...]) -> str:
        return self.tensor(self.numbers.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape))

    def across(self, values: Array) -> Array:
        """One for each channel, to multiply or add to a value."""
        return values.reshape(-1, *[1] * self.recipe.dims)

    def step(self, step: Convolution | Skip | Valley, values: Sequence[str]) -> str:
        before = values[-1]
        if isinstance(step, Convolution):
            return self.convolution(before, step)
        if isinstance(step, Skip):
            other = values[-1 - step.back % len(values)]
            return self.join(before, other) if step.joined else self.add("Add", [before, other])
        return self.valley(before, step)

    def join(self, one: str, other: str) -> str:
        width, dims = self.recipe.width, self.recipe.dims
        both = self.add("Concat", [one, other], axis=1)
        return self.add("Conv", [both, self.filters((width, 2 * width, *[1] * dims))])

    def valley(self, value: str, step: Valley) -> str:
        width, dims = self.recipe.width, self.recipe.dims
        twice: dict[str, Any] = {"kernel_shape": [2] * dims, "strides": [2] * dims}
        if step.strided:
            down = self.add("Conv", [value, self.filters((width, width, *[2] * dims))], **twice)
        else:
            down = self.add("MaxPool", [value], **twice)
        down = self.convolution(down, step.inside)
        if step.up == "transpose":
            up = self.add("ConvTranspose", [down, self.filters((width, width, *[2] * dims))], **twice)
        else:
            scales = self.tensor(np.array([1, 1, *[2] * dims]))
            up = self.add("Resize", [down, "", scales], mode=step.up)
        return self.join(up, value) if step.joined else up

    def convolution(self, value: str, step: Convolution, width_in: int | None = None) -> str:
        width, dims = self.recipe.width, self.recipe.dims
        first = width if width_in is None else width_in
        groups = step.groups or first
        shape = (width, first // groups, *[step.kernel] * dims)
        filters = self.filters(shape)
        bias = [self.tensor(self.numbers.normal(0, 0.1, width))] if step.bias else []
        norm = self._batch_numbers(width) if step.norm == "batch" else None
        if norm is not None and self.folded:
            bias = [self._fold(filters, bias, norm, axis=1 if step.transposed else 0)]
        reach = step.dilation * (step.kernel // 2)
        value = self.add(
            "ConvTranspose" if step.transposed else "Conv",
            [value, filters, *bias],
            kernel_shape=[step.kernel] * dims,
            dilations=[step.dilation] * dims,
            pads=[reach] * (2 * dims),
            group=groups,
        )
        if norm is not None and not self.folded:
            value = self.add("BatchNormalization", [value, *map(self.tensor, norm)], epsilon=EPSILON)
        elif step.norm in ("instance", "group"):
            value = self._normalised(value, step.norm)
        return self._activated(value, step.activation)

    def _batch_numbers(self, width: int) -> tuple[Array, ...]:
        scale, var = (self.norms.uniform(0.5, 1.5, width).astype(np.float32) for _ in range(2))
        bias, mean = (self.norms.normal(0, 0.2, width).astype(np.float32) for _ in range(2))
        return scale, bias, mean, var

    def _fold(self, filters: str, bias: list[str], norm: Sequence[Array], axis: int) -> str:
        scale, offset, mean, var = (numbers.astype(np.float64) for numbers in norm)
        factor = scale / np.sqrt(var + EPSILON)
        array = self.tensors[filters]
        shape = [1] * array.ndim
        shape[axis] = -1
        self.tensors[filters] = (array * factor.reshape(shape)).astype(np.float32)
        before = self.tensors.pop(bias[0]) if bias else np.zeros(1)
        name = bias[0] if bias else f"w{len(self.tensors)}"
        self.tensors[name] = ((before - mean) * factor + offset).astype(np.float32)
        return name

    def _normalised(self, value: str, kind: str) -> str:
        """Instance or group normalisation; older opsets have no operator for groups."""
        width = self.recipe.width
        scale = self.norms.uniform(0.5, 1.5, width)
        bias = self.norms.normal(0, 0.2, width)
        if kind == "instance":
            return self.add("InstanceNormalization", [value, self.tensor(scale), self.tensor(bias)])
        if self.recipe.opset >= 21:
            given = [value, self.tensor(scale), self.tensor(bias)]
            return self.add("GroupNormalization", given, num_groups=2)
        flat = self.add("Reshape", [value, self.tensor(np.array([0, 2, -1]), np.int64)])
        ones, noughts = self.tensor(np.ones(2)), self.tensor(np.zeros(2))
        apart = self.add("InstanceNormalization", [flat, ones, noughts])
        back = self.add("Reshape", [apart, self.add("Shape", [value])])
        scaled = self.add("Mul", [back, self.tensor(self.across(scale))])
        return self.add("Add", [scaled, self.tensor(self.across(bias))])

    def _activated(self, value: str, activation: str) -> str:
        match activation:
            case "":
                return value
            case "Clip":
                return self.add("Clip", [value, self.tensor(np.array(0)), self.tensor(np.array(6))])
            case "PRelu":
                slopes = self.numbers.uniform(0.1, 0.4, self.recipe.width)
                return self.add("PRelu", [value, self.tensor(self.across(slopes))])
            case "Softmax":
                return self.add("Softmax", [value], axis=1)
        return self.add(activation, [value])

    def model(self) -> onnx.ModelProto:
        axes = AXES[-self.recipe.dims :]
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width, *axes])
            for name, width in (("input", 1), ("logits", CLASSES))
        ]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "network", ports[:1], ports[1:], tensors)
        opset = helper.make_opsetid("", self.recipe.opset)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def in_other_words(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same network with other names, some tensors as Constant nodes, and nodes that do nothing."""
    numbers = random.Random(seed)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    kept = {port.name for port in (*graph.input, *graph.output)}
    names: dict[str, str] = {name: name for name in ("", *kept)}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"n{numbers.randrange(10**9)}_{len(names)}")

    nodes: list[onnx.NodeProto] = []
    tensors = list(graph.initializer)
    numbers.shuffle(tensors)
    del graph.initializer[:]
    for tensor in tensors:
        tensor.name = renamed(tensor.name)
        if numbers.random() < 0.3:
            nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
        else:
            graph.initializer.append(tensor)
    for node in graph.node:
        node.name = f"node{numbers.randrange(10**9)}"
        inputs = [renamed(name) for name in node.input]
        if inputs and numbers.random() < 0.3:
            idle = f"idle{len(nodes)}"
            operator = numbers.choice(["Identity", "Dropout"])
            nodes.append(helper.make_node(operator, [inputs[0]], [idle]))
            inputs[0] = idle
        outputs = [renamed(name) for name in node.output]
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    onnx.checker.check_model(result, full_check=True)
    return result

"""Chains of numeric operators as ONNX graphs: free sizes, one graph for every series."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.operators.argmax import Argmax
from models.operators.base import Operator
from models.operators.crop import CropTo
from models.operators.intensity import Clip, Normalise
from models.operators.normalise_volume import FLAT, NormaliseVolume, NormaliseWith
from models.operators.one_hot import OneHot
from models.operators.pointwise import Pointwise
from models.operators.resample import Resample
from models.operators.softmax import Softmax
from models.values import Kind, ValueType
from planner.networks.reading.write import IR_VERSION, model_bytes
from planner.numeric.fused import IMAGE

OPSET = 18
"""ReduceMin with axes as an input, Clip of any type, Resize with `sizes` alone."""

TOLERANCES: dict[type[Operator], float] = {
    Clip: 0.0,
    Normalise: 0.0,
    Pointwise: 0.0,
    CropTo: 0.0,
    OneHot: 0.0,
    Argmax: 0.0,
    NormaliseWith: 1e-6,
    NormaliseVolume: 1e-6,
    Softmax: 1e-6,
    Resample: 1e-4,
}
"""How far a step's result may be from the numpy kernel's, relative to the largest magnitude it works on.

Resample: positions are float32 in the runtime's `Resize` and float64 here, so they are off by 2**-24 of an
axis' length, and values by that times the difference of neighbours: 3e-5 of it along 512 voxels. A division
may be done as a product with the inverse. All else is the same arithmetic in the same order.
"""


def can_build(operator: Operator, given: ValueType) -> bool:
    """Whether the operator, on a first input of this type, has a form as a graph.

    Quantiles and z-scores have none: a sort, and sums in float64, are better left to the kernels. Nor has
    what depends on whether there are one or two classes where one segment is named.
    """
    match operator:
        case NormaliseVolume(by=by):
            return by == "min_max"
        case Softmax() | Argmax():
            return len(given.segments) > 1
        case OneHot():
            return bool(given.segments)
    return type(operator) in TOLERANCES


def build(chain: Sequence[Operator], given: ValueType) -> bytes:
    """A model that computes these operators one after the other, the first on a value of type `given`.

    Its inputs are `x`, the voxels, and what `planner.numeric.fused` feeds; its output is the result's voxels.
    """
    graph = _Graph()
    element = onnx.TensorProto.UINT8 if given.kind is Kind.LABEL_MAP else onnx.TensorProto.FLOAT
    first: list[str | int] = ["classes"] if given.kind is Kind.PROBABILITY_MAP else []
    graph.take(IMAGE, element, [*first, "slices", "rows", "columns"])
    value, kind = IMAGE, given
    for number, operator in enumerate(chain):
        value = _lower(operator, graph, value, kind, f"{number}.")
        kind = operator.infer([kind, *further_types(operator)])
    element = onnx.TensorProto.UINT8 if kind.kind is Kind.LABEL_MAP else onnx.TensorProto.FLOAT
    return graph.model(value, element, 4 if kind.kind is Kind.PROBABILITY_MAP else 3)


class _Graph:
    """Nodes, constants and inputs as they are added; values are named by their number."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def add(self, word: str, *inputs: str, **attributes: Any) -> str:
        output = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(word, list(inputs), [output], **attributes))
        return output

    def constant(self, array: NDArray[Any] | np.generic) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def take(self, name: str, element: int, shape: Sequence[str | int]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, element, list(shape)))
        return name

    def model(self, result: str, element: int, axes: int) -> bytes:
        output = helper.make_tensor_value_info(result, element, [None] * axes)
        graph = helper.make_graph(self._nodes, "numeric", self._inputs, [output], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        return model_bytes(model)


def further_types(operator: Operator) -> list[ValueType]:
    """Types of the inputs after the first."""
    match operator:
        case NormaliseWith():
            return [ValueType(kind=Kind.MEASUREMENTS)]
        case CropTo():
            return [ValueType(kind=Kind.LABEL_MAP)]
    return []


def _lower(operator: Operator, graph: _Graph, x: str, given: ValueType, prefix: str) -> str:
    match operator:
        case Clip(min_hu=low, max_hu=high):
            return _clip(graph, x, low, high)
        case Normalise():
            return _normalise(graph, x, operator.offset, operator.scale)
        case Pointwise(steps=steps):
            for step in steps:
                x = (_clip if step.op == "clip" else _normalise)(graph, x, *step.numbers)
            return x
        case NormaliseWith():
            offset = graph.take(f"{prefix}offset", onnx.TensorProto.FLOAT, [])
            width = graph.take(f"{prefix}width", onnx.TensorProto.FLOAT, [])
            scaled = graph.add("Div", graph.add("Sub", x, offset), width)
            return _clip(graph, scaled, 0, 1) if operator.clip else scaled
        case NormaliseVolume():
            return _min_max(operator, graph, x)
        case Resample():
            return _resample(operator, graph, x, graph.take(f"{prefix}sizes", onnx.TensorProto.INT64, [3]))
        case CropTo():
            starts = graph.take(f"{prefix}starts", onnx.TensorProto.INT64, [3])
            stops = graph.take(f"{prefix}stops", onnx.TensorProto.INT64, [3])
            return graph.add("Slice", x, starts, stops, graph.numbers(0, 1, 2))
        case Softmax():
            return _softmax(graph, x)
        case OneHot():
            classes = np.arange(len(given.segments) + 1, dtype=np.uint8)[:, None, None, None]
            equal = graph.add("Equal", graph.add("Unsqueeze", x, graph.numbers(0)), graph.constant(classes))
            return graph.add("Cast", equal, to=onnx.TensorProto.FLOAT)
        case Argmax():
            return graph.add("Cast", graph.add("ArgMax", x, axis=0, keepdims=0), to=onnx.TensorProto.UINT8)
    raise TypeError(f"{operator.name} has no form as a graph")


def _clip(graph: _Graph, x: str, low: float, high: float) -> str:
    return graph.add("Clip", x, graph.constant(np.float32(low)), graph.constant(np.float32(high)))


def _normalise(graph: _Graph, x: str, offset: float, scale: float) -> str:
    moved = graph.add("Sub", x, graph.constant(np.float32(offset)))
    return graph.add("Mul", moved, graph.constant(np.float32(scale)))


def _min_max(operator: NormaliseVolume, graph: _Graph, x: str) -> str:
    low, high = graph.add("ReduceMin", x, keepdims=0), graph.add("ReduceMax", x, keepdims=0)
    width = graph.add("Sub", high, low)
    largest = graph.add("Max", graph.add("Abs", low), graph.add("Abs", high))
    flat = graph.add("LessOrEqual", width, graph.add("Mul", largest, graph.constant(np.float32(FLAT))))
    some = graph.add("Where", flat, graph.constant(np.float32(np.inf)), width)
    scaled = graph.add("Div", graph.add("Sub", x, low), some)
    return _clip(graph, scaled, 0, 1) if operator.clip else scaled


def _softmax(graph: _Graph, x: str) -> str:
    """Written out: the runtime's own along the first axis took 1.2 s where this takes 0.04 s."""
    axis = graph.numbers(0)
    powers = graph.add("Exp", graph.add("Sub", x, graph.add("ReduceMax", x, axis)))
    return graph.add("Div", powers, graph.add("ReduceSum", powers, axis))


def _resample(operator: Resample, graph: _Graph, x: str, sizes: str) -> str:
    """In planes alone, slices are channels: the runtime's two-dimensional form is the faster one."""
    in_planes = operator.in_plane is not None or any(operator.spacing_mm[1:])
    ones = [1] if in_planes and operator.spacing_mm[0] == 0 else [1, 1]
    axes = graph.numbers(*range(len(ones)))
    whole = graph.add("Concat", graph.numbers(*ones), sizes, axis=0)
    resized = graph.add(
        "Resize",
        graph.add("Unsqueeze", x, axes),
        "",
        "",
        whole,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    return graph.add("Squeeze", resized, axes)

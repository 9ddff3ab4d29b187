"""What is known of every value's dtype and shape, asked of onnx without handing it the large tensors."""

from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from planner.networks.reading.canonical.free_sizes import follow_free_sizes
from planner.networks.reading.canonical.graph import Dim, Graph, Node, Type

GIVEN_UP_TO = 64
"""Elements. Constants up to this size are handed over, as shapes and axes may depend on them."""

MOST_TURNS = 4
"""A guess: each turn goes on where the one before lost the rank; most networks need one."""


def infer_types(graph: Graph) -> None:
    """Set `graph.types` for all values that can be told about; free sizes keep the words of the inputs."""
    graph.types = {port.name: Type(port.dtype, port.shape) for port in graph.inputs}
    model = _lean_model(graph)
    words = {size for port in graph.inputs for size in port.shape if isinstance(size, str)}
    for _ in range(MOST_TURNS):
        try:
            found = onnx.shape_inference.infer_shapes(model).graph
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return  # passes leave alone what they know too little of
        for info in (*found.value_info, *found.output):
            graph.types[info.name] = _type(info, words)
        gained = follow_free_sizes(graph)
        if not gained:
            return
        for name in gained:  # onnx stops where it loses the rank: help it over that, and let it go on
            kind = graph.types[name]
            if kind.dtype is not None and kind.shape is not None:
                sizes = tuple(
                    None if isinstance(size, str) and size not in words else size for size in kind.shape
                )
                model.graph.value_info.append(_info(name, np.dtype(kind.dtype), sizes))


def _lean_model(graph: Graph) -> onnx.ModelProto:
    given, typed = [], []
    for name, value in graph.constants.items():
        if value.size <= GIVEN_UP_TO:
            given.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        else:
            typed.append(_info(name, value.dtype, value.shape))
    produced = {name for node in graph.nodes for name in node.outputs}
    model = helper.make_model(
        helper.make_graph(
            [node_proto(node) for node in graph.nodes],
            "network",
            [*(_info(port.name, np.dtype(port.dtype), port.shape) for port in graph.inputs), *typed],
            [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(graph.names_out) if name in produced],
            given,
        ),
        opset_imports=[helper.make_opsetid("", graph.opset)],
    )
    model.ir_version = 10
    return model


def node_proto(node: Node) -> onnx.NodeProto:
    return onnx.NodeProto(
        op_type=node.type,
        input=node.inputs,
        output=node.outputs,
        attribute=[_attribute(name, value) for name, value in node.attributes.items() if value != []],
    )


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if type(value) is int:  # most are, and onnx takes its time to find out
        return onnx.AttributeProto(name=name, type=onnx.AttributeProto.INT, i=value)
    if isinstance(value, list) and all(type(number) is int for number in value):
        return onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS, ints=value)
    return helper.make_attribute(name, helper_tensor(value) if isinstance(value, dict) else value)


def helper_tensor(value: dict[str, Any]) -> onnx.TensorProto:
    """A tensor attribute from its JSON form."""
    return numpy_helper.from_array(np.array(value["numbers"], value["dtype"]).reshape(value["shape"]))


def _info(name: str, dtype: np.dtype[Any], shape: tuple[Dim, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), list(shape))


@cache
def _word(element: int) -> str:
    return helper.tensor_dtype_to_np_dtype(element).name


def _type(info: onnx.ValueInfoProto, words: set[str]) -> Type:
    declared = info.type.tensor_type
    dtype = None
    if declared.elem_type:
        dtype = _word(declared.elem_type)
    if not declared.HasField("shape"):
        return Type(dtype)
    sizes: list[Dim] = []
    for size in declared.shape.dim:
        if size.WhichOneof("value") == "dim_value":
            sizes.append(size.dim_value)
        else:
            sizes.append(size.dim_param if size.dim_param in words else None)
    return Type(dtype, tuple(sizes))

"""A structure and its numbers as an ONNX model again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from planner.networks.structure import Op, Port, Structure

IR_VERSION = 10
"""Of what is written: read by every onnxruntime from 1.18 on."""


def to_onnx(structure: Structure, tensors: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """The network as a model. Tensors of the structure that are not given become inputs of the graph.

    Ports keep the structure's names. Equal arguments give equal bytes (`model_bytes`).
    """
    names = [name for name in structure.tensor_names() if name in tensors]
    given = [numpy_helper.from_array(np.ascontiguousarray(tensors[name]), name) for name in names]
    constants = [numpy_helper.from_array(c.array(), name) for name, c in sorted(structure.constants.items())]
    lacking = [
        Port(name, structure.tensors[name].dtype, structure.tensors[name].shape)
        for name in structure.tensor_names()
        if name not in tensors
    ]
    graph = helper.make_graph(
        [_node(op) for op in structure.ops],
        "network",
        [_value_info(port) for port in (*structure.inputs, *lacking)],
        [_value_info(port) for port in structure.outputs],
        given + constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", structure.opset)])
    model.ir_version = IR_VERSION
    return model


def model_bytes(model: onnx.ModelProto) -> bytes:
    """Equal models, equal bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _node(op: Op) -> onnx.NodeProto:
    attributes = {name: _attribute(value) for name, value in op.attributes.items()}
    return helper.make_node(op.type, list(op.inputs), list(op.outputs), domain=op.domain, **attributes)


def _attribute(value: Any) -> Any:
    """JSON back to what ONNX takes: a mapping is a tensor."""
    if isinstance(value, dict):
        return numpy_helper.from_array(np.array(value["numbers"], value["dtype"]).reshape(value["shape"]))
    return value


def _value_info(port: Port) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return helper.make_tensor_value_info(port.name, element, list(port.shape))

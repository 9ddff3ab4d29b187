"""Small graphs written operator by operator.

model_of([node("Relu", ["x"], ["y"])])           a model of nodes and tensors by name, unchecked
net = Net(); net.model(net.add("Relu", "x"))     a graph in the making, which names values by itself
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, Array] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    shape: Sequence[int | str] = ("n", 4, "h", "w"),
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """`x` float32 of this shape -> `outputs` float32, unchecked. functions: of the domain `local`."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (tensors or {}).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    if functions:
        imports.append(helper.make_opsetid("local", 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=9, functions=list(functions))


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, outputs, **attributes)


class Net:
    """A graph in the making: `x` float32[n, 4, h, w] unless said."""

    def __init__(self, seed: int = 0, shape: tuple[int | str, ...] = ("n", 4, "h", "w")) -> None:
        self.numbers = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, Array] = {}
        self.shape = shape

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors[name] = np.asarray(value, dtype)
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self.numbers.normal(size=shape) * 0.4)

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"v{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0]

    def model(self, *outputs: str, opset: int = 17) -> onnx.ModelProto:
        return model_of(self.nodes, self.tensors, outputs=outputs, shape=self.shape, opset=opset)


def conv(net: Net, value: str, weights: str, *bias: str, **attributes: Any) -> str:
    return net.add("Conv", value, weights, *bias, **{"pads": [1, 1, 1, 1], **attributes})

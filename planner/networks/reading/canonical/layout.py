"""Transposes sink towards the outputs, meet their inverses and vanish.

Exporters that keep channels last put a pair of them around every convolution.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.reading.canonical.graph import Graph, Node, Type

ELEMENTWISE = {
    "Abs", "Celu", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus",
    "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
}  # fmt: skip
TOGETHER = {"Add", "Mul", "Sub", "Div", "Max", "Min", "Pow", "PRelu", "Where", "Sum", "Mean"}
"""All inputs broadcast against each other."""
WITH_AXIS = {"Concat", "Softmax", "LogSoftmax", "Hardmax"}


MOST_SWEEPS = 20
"""A guess: each follows the whole graph once, and the third of most networks finds nothing left to move."""


def sink_transposes(graph: Graph) -> None:
    """Move each Transpose behind its reader where that means the same; two in a row become one. Exact."""
    for _ in range(MOST_SWEEPS):
        if not _sweep(graph):
            return


def _sweep(graph: Graph) -> bool:
    changed = False
    producer: dict[str, Node] = {}
    alias: dict[str, str] = {}
    result: list[Node] = []
    for node in graph.nodes:
        node.inputs = [alias.get(name, name) for name in node.inputs]
        before = producer.get(node.inputs[0]) if node.inputs else None
        written: list[Node] | None = None
        if node.type == "Transpose" and before is not None:
            written = _joined(node, before)
            if written == []:
                alias[node.outputs[0]] = before.inputs[0]
        elif node.type != "Transpose":
            written = _moved(graph, node, producer)
        changed = changed or written is not None
        for part in [node] if written is None else written:
            result.append(part)
            if part.type == "Transpose" and _perm(part):
                producer[part.outputs[0]] = part
    graph.nodes = result
    graph.names_out = [alias.get(name, name) for name in graph.names_out]
    if changed:
        graph.drop_unused()
    return changed


def _joined(outer: Node, inner: Node) -> list[Node] | None:
    """Two Transposes in a row as one, or as none."""
    second, first = _perm(outer), _perm(inner)
    if second is None or first is None or len(first) != len(second):
        return None
    perm = [first[axis] for axis in second]
    if perm == list(range(len(perm))):
        return []
    return [Node("Transpose", [inner.inputs[0]], outer.outputs, {"perm": perm})]


def _moved(graph: Graph, node: Node, producer: dict[str, Node]) -> list[Node] | None:
    """The node on values that are not transposed yet, and the Transpose after it."""
    if len(node.outputs) != 1:
        return None
    if node.type in ELEMENTWISE:
        given = node.inputs[:1]
    elif node.type in TOGETHER or node.type in WITH_AXIS:
        given = node.inputs
    else:
        return None
    perms = {tuple(_perm(producer[name]) or ()) for name in given if name in producer}
    if len(perms) != 1:
        return None
    perm = list(perms.pop())
    inputs: list[str] = []
    for name in node.inputs:
        if name in producer and name in given:
            inputs.append(producer[name].inputs[0])
        elif name not in given:
            inputs.append(name)
        elif name in graph.constants and node.type in TOGETHER:
            turned = _turned(graph.constants[name], perm)
            if turned is None:
                return None
            inputs.append(graph.add_constant(turned))
        else:
            return None
    attributes = dict(node.attributes)
    if node.type in WITH_AXIS:
        axis = attributes.get("axis", -1)
        if not -len(perm) <= axis < len(perm):
            return None
        if node.type != "Concat" and graph.opset < 13:  # meant all axes from this one on
            return None
        attributes["axis"] = perm[axis % len(perm)]
    between = graph.new_name()
    kind = graph.type_of(node.outputs[0])
    if kind.shape is not None and len(kind.shape) == len(perm):
        shape = tuple(kind.shape[perm.index(axis)] for axis in range(len(perm)))
        graph.types[between] = Type(kind.dtype, shape)
    return [
        Node(node.type, inputs, [between], attributes),
        Node("Transpose", [between], node.outputs, {"perm": perm}),
    ]


def _turned(value: NDArray[Any], perm: list[int]) -> NDArray[Any] | None:
    """The constant as it broadcasts against the value before the Transpose."""
    if value.size == 1 and value.ndim <= len(perm):
        return value
    if value.ndim > len(perm):
        return None
    full = value.reshape((*[1] * (len(perm) - value.ndim), *value.shape))
    return np.ascontiguousarray(full.transpose([perm.index(axis) for axis in range(len(perm))]))


def _perm(node: Node) -> list[int] | None:
    perm = node.attributes.get("perm")
    return list(perm) if perm is not None else None

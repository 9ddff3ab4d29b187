"""One operator for one meaning, where exporters choose between several."""

import numpy as np

from planner.networks.reading.canonical.evaluate import DTYPES
from planner.networks.reading.canonical.graph import Graph, Node, Type, integers, trimmed

CASTS = {name: number for number, name in DTYPES.items()}
POOLED = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def spell_operators(graph: Graph) -> None:
    """Write each operator in its plainest form. Exact, but for means, which are rounded otherwise."""
    graph.nodes = [part for node in graph.nodes for part in _groups(graph, node)]
    for node in graph.nodes:
        if node.type == "Clip":
            _clip(graph, node)
        elif node.type == "CastLike":
            _cast(graph, node)
        elif node.type == "Flatten":
            _flatten(graph, node)
        elif node.type == "Sum" and len(node.inputs) == 2:
            node.type = "Add"
        elif node.type in POOLED:
            _pool(graph, node)


def _clip(graph: Graph, node: Node) -> None:
    """Bounds that bound nothing are left out; from nought on alone is Relu."""
    for place in (1, 2):
        name = node.inputs[place] if len(node.inputs) > place else ""
        bound = graph.constants.get(name)
        if bound is not None and bound.dtype.kind == "f":
            limits = np.finfo(bound.dtype)
            idle = bound <= limits.min if place == 1 else bound >= limits.max
            if idle.all():
                node.inputs[place] = ""
    node.inputs = trimmed(node.inputs)
    if len(node.inputs) == 2 and node.inputs[1] in graph.constants:
        low = graph.constants[node.inputs[1]]
        if low.size == 1 and not low.any() and low.dtype.kind == "f":
            node.type, node.inputs = "Relu", node.inputs[:1]


def _cast(graph: Graph, node: Node) -> None:
    kind = graph.type_of(node.inputs[1]).dtype
    if kind in CASTS:
        node.type, node.inputs = "Cast", node.inputs[:1]
        node.attributes = {**node.attributes, "to": CASTS[kind]}


def _flatten(graph: Graph, node: Node) -> None:
    rank, axis = graph.rank_of(node.inputs[0]), node.attributes.get("axis", 1)
    if rank and (axis + rank if axis < 0 else axis) == 1:
        node.type, node.attributes = "Reshape", {}
        node.inputs = [node.inputs[0], graph.add_constant(np.array([0, -1], np.int64))]


def _pool(graph: Graph, node: Node) -> None:
    """A reduction over all axes but batch and channels that keeps them as ones."""
    rank = graph.rank_of(node.inputs[0])
    axes = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if rank is None or rank < 3 or axes is None or not node.attributes.get("keepdims", 1):
        return
    if graph.type_of(node.inputs[0]).dtype != "float32":
        return
    if sorted(axis % rank for axis in integers(axes)) == list(range(2, rank)):
        node.type, node.inputs, node.attributes = POOLED[node.type], node.inputs[:1], {}


def _groups(graph: Graph, node: Node) -> list[Node]:
    """GroupNormalization as InstanceNormalization of the groups: most exporters write it so, and onnxruntime
    has a kernel for that only."""
    rank = graph.rank_of(node.inputs[0]) if node.type == "GroupNormalization" else None
    tensors = [graph.constants.get(name) for name in node.inputs[1:3]]
    if rank is None or rank < 3 or graph.opset < 21 or any(tensor is None for tensor in tensors):
        return [node]
    source, count = node.inputs[0], node.attributes["num_groups"]
    kind = graph.type_of(source)
    scale, bias = (tensor.reshape(-1, *[1] * (rank - 2)) for tensor in tensors if tensor is not None)
    ones = graph.add_constant(np.ones(count, scale.dtype))
    noughts = graph.add_constant(np.zeros(count, scale.dtype))
    grouped, normal, shape, back, scaled = (graph.new_name() for _ in range(5))
    graph.types |= {
        back: kind,
        scaled: kind,
        shape: Type("int64", (rank,)),
        grouped: Type(kind.dtype, (None,) * 3),
    }
    per_group = graph.add_constant(np.array([0, count, -1], np.int64))
    epsilon = {name: value for name, value in node.attributes.items() if name == "epsilon"}
    return [
        Node("Reshape", [source, per_group], [grouped]),
        Node("InstanceNormalization", [grouped, ones, noughts], [normal], epsilon),
        Node("Shape", [source], [shape]),
        Node("Reshape", [normal, shape], [back]),
        Node("Mul", [back, graph.add_constant(scale)], [scaled]),
        Node("Add", [scaled, graph.add_constant(bias)], node.outputs),
    ]

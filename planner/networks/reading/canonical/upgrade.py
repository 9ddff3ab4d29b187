"""Bring every operator to one version of the standard, so that files of several opsets meet.

The canonical opset is 21: the first in which GroupNormalization has its final form, the last that IR version
10 (onnxruntime from 1.18 on) goes with, and one that onnxruntime, its quantiser and OpenVINO all know well.
Later opsets change types only, or add operators; a network with such an operator keeps its own opset.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx

from planner.networks.reading.canonical.graph import Graph, Node, trimmed

CANONICAL_OPSET = 21


class CannotUpgrade(Exception):
    """An operator means something at its opset that the canonical one cannot say."""


def upgrade(graph: Graph) -> None:
    """Rewrite all nodes for the canonical opset, or leave every one of them as it is."""
    if graph.opset == CANONICAL_OPSET:
        return
    before = [(list(node.inputs), dict(node.attributes), list(node.outputs)) for node in graph.nodes]
    try:
        for node in graph.nodes:
            _upgrade_node(graph, node)
    except CannotUpgrade:
        for node, (inputs, attributes, outputs) in zip(graph.nodes, before, strict=True):
            node.inputs, node.attributes, node.outputs = inputs, attributes, outputs
        return
    graph.opset = CANONICAL_OPSET


def _upgrade_node(graph: Graph, node: Node) -> None:
    special = SPECIAL.get(node.type)
    if special is not None:
        special(graph, node)
        return
    known = _attributes_then(node.type, graph.opset)
    if known is None or not known.issuperset(node.attributes):
        raise CannotUpgrade(node.type)


@cache
def _attributes_then(operator: str, opset: int) -> frozenset[str] | None:
    """Attributes the operator has at the canonical opset; None if it means something else there."""
    try:
        then = onnx.defs.get_schema(operator, CANONICAL_OPSET, "")
        now = onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None
    if (
        then.since_version != now.since_version
        and operator not in HARMLESS
        and _signature(then) != _signature(now)
    ):
        return None
    return frozenset(then.attributes)


def _signature(schema: onnx.defs.OpSchema) -> Any:
    attributes = {
        name: (str(attribute.type), attribute.default_value.SerializeToString())
        for name, attribute in schema.attributes.items()
    }
    return attributes, [(str(p.option), p.min_arity) for p in schema.inputs], len(schema.outputs)


HARMLESS = {
    "ArgMax", "ArgMin", "Cast", "CastLike", "DequantizeLinear", "GRU", "GatherND", "LSTM", "Pad",
    "QuantizeLinear", "RNN", "Reshape", "Resize", "ScatterElements", "ScatterND", "Shape",
}  # fmt: skip
"""Only gained attributes or inputs that, left out, mean what was meant before."""


def _axes_to_input(since: int) -> Callable[[Graph, Node], None]:
    def rewrite(graph: Graph, node: Node) -> None:
        if graph.opset < since:
            axes = node.attributes.pop("axes", None)
            if axes is not None:
                node.inputs = [node.inputs[0], graph.add_constant(np.array(axes, np.int64))]

    return rewrite


def _split(graph: Graph, node: Node) -> None:
    if graph.opset < 13 and "split" in node.attributes:
        sizes = graph.add_constant(np.array(node.attributes.pop("split"), np.int64))
        node.inputs = [node.inputs[0], sizes]
    elif graph.opset < 18 and len(trimmed(node.inputs)) < 2:
        node.attributes["num_outputs"] = len(node.outputs)


def _softmax(graph: Graph, node: Node) -> None:
    """Before opset 13 all axes from `axis` on were one; the same thing where `axis` is the last."""
    if graph.opset >= 13:
        return
    axis, rank = node.attributes.get("axis", 1), graph.rank_of(node.inputs[0])
    if axis != -1 and (rank is None or axis % rank != rank - 1):
        raise CannotUpgrade(node.type)
    node.attributes["axis"] = -1


def _batch_normalisation(graph: Graph, node: Node) -> None:
    if node.attributes.get("training_mode", 0) or (graph.opset < 14 and len(trimmed(node.outputs)) > 1):
        raise CannotUpgrade(node.type)


def _dropout(graph: Graph, node: Node) -> None:
    if graph.opset < 12:
        node.attributes.pop("ratio", None)


def _grid_sample(graph: Graph, node: Node) -> None:
    if graph.opset < 20:
        mode = node.attributes.get("mode", "bilinear")
        node.attributes["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


def _group_normalisation(graph: Graph, node: Node) -> None:
    """Scale and bias used to be given per group, and are given per channel since."""
    if graph.opset >= 21:
        return
    shape = graph.type_of(node.inputs[0]).shape
    if (
        shape is None
        or not isinstance(shape[1], int)
        or any(n not in graph.constants for n in node.inputs[1:])
    ):
        raise CannotUpgrade(node.type)
    repeated = shape[1] // int(node.attributes["num_groups"])
    node.inputs[1:] = [
        graph.add_constant(np.repeat(graph.constants[name], repeated)) for name in node.inputs[1:]
    ]


def _average_pool(graph: Graph, node: Node) -> None:
    """With ceil_mode the last window used to be counted otherwise."""
    if graph.opset < 19 and node.attributes.get("ceil_mode", 0):
        raise CannotUpgrade(node.type)


def _roi_align(graph: Graph, node: Node) -> None:
    if graph.opset < 16:
        node.attributes["coordinate_transformation_mode"] = "output_half_pixel"


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
SPECIAL: dict[str, Callable[[Graph, Node], None]] = {
    **{f"Reduce{word}": _axes_to_input(18) for word in REDUCTIONS},
    "ReduceSum": _axes_to_input(13),
    "Squeeze": _axes_to_input(13),
    "Unsqueeze": _axes_to_input(13),
    "Split": _split,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "BatchNormalization": _batch_normalisation,
    "Dropout": _dropout,
    "GridSample": _grid_sample,
    "GroupNormalization": _group_normalisation,
    "AveragePool": _average_pool,
    "RoiAlign": _roi_align,
}

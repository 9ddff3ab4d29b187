"""Attributes written one way: defaults left out, padding explicit, what has no effect gone."""

from functools import cache
from typing import Any

import numpy as np
import onnx

from planner.networks.reading.canonical.graph import Graph, Node, trimmed

POOLS = {"MaxPool", "AveragePool", "LpPool"}
CONVOLUTIONS = {"Conv", "ConvTranspose"}


def spell_attributes(graph: Graph) -> None:
    """Give every operator's attributes their canonical spelling. Exact."""
    for node in graph.nodes:
        node.inputs, node.outputs = trimmed(node.inputs), trimmed(node.outputs)
        if node.type in CONVOLUTIONS | POOLS:
            _windows(graph, node)
        elif node.type == "Resize":
            _resize(graph, node)
        elif node.type == "Transpose":
            _perm(graph, node)
        elif node.type in AXIS:
            _axis(graph, node)
        defaults = schema_defaults(node.type, graph.opset)
        node.attributes = {
            name: value
            for name, value in sorted(node.attributes.items())
            if name not in defaults or defaults[name] != value
        }


@cache
def schema_defaults(operator: str, opset: int) -> dict[str, Any]:
    """Attributes that may be left out, and what they then are."""
    found = {}
    for name, attribute in onnx.defs.get_schema(operator, opset, "").attributes.items():
        if attribute.default_value.name:
            value = onnx.helper.get_attribute_value(attribute.default_value)
            found[name] = value.decode() if isinstance(value, bytes) else value
    return found


AXIS = {"Concat", "Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "Gather", "Split"}


def _axis(graph: Graph, node: Node) -> None:
    """Counted from the front, where the rank is known."""
    rank = graph.rank_of(node.inputs[0])
    axis = node.attributes.get("axis", schema_defaults(node.type, graph.opset).get("axis"))
    if rank and axis is not None and -rank <= axis < rank:
        node.attributes["axis"] = axis % rank


def _windows(graph: Graph, node: Node) -> None:
    if node.type in CONVOLUTIONS and node.inputs[1] in graph.constants:
        node.attributes["kernel_shape"] = list(graph.constants[node.inputs[1]].shape[2:])
    kernel = node.attributes.get("kernel_shape")
    if kernel is None:
        return
    axes = len(kernel)
    _explicit_pads(graph, node, kernel)
    neutral = {
        "strides": [1] * axes,
        "dilations": [1] * axes,
        "pads": [0] * 2 * axes,
        "output_padding": [0] * axes,
    }
    for name, value in neutral.items():
        if node.attributes.get(name) == value:
            del node.attributes[name]
    if node.type == "MaxPool" and len(node.outputs) == 1:
        node.attributes.pop("storage_order", None)
    unpadded = "pads" not in node.attributes and "auto_pad" not in node.attributes
    if node.type == "AveragePool" and unpadded and not node.attributes.get("ceil_mode"):
        node.attributes.pop("count_include_pad", None)


def _explicit_pads(graph: Graph, node: Node, kernel: list[int]) -> None:
    """auto_pad as pads, wherever they do not depend on a free size."""
    way = node.attributes.get("auto_pad", "NOTSET")
    if way == "NOTSET":
        node.attributes.pop("auto_pad", None)
        return
    axes = len(kernel)
    strides = node.attributes.get("strides", [1] * axes)
    dilations = node.attributes.get("dilations", [1] * axes)
    if way == "VALID":
        node.attributes.pop("auto_pad")
        node.attributes.pop("pads", None)
        return
    shape = graph.type_of(node.inputs[0]).shape
    sides = shape[2:] if shape is not None else (None,) * axes
    if node.type == "ConvTranspose":
        if "output_shape" in node.attributes:
            return
        extra = node.attributes.get("output_padding", [0] * axes)
        totals = [
            (k - 1) * d + 1 + e - s for k, d, e, s in zip(kernel, dilations, extra, strides, strict=True)
        ]
        if min(totals) < 0:
            return
    else:
        totals = []
        for side, k, d, s in zip(sides, kernel, dilations, strides, strict=True):
            reach = (k - 1) * d + 1
            if s == 1:
                totals.append(reach - 1)
            elif isinstance(side, int):
                totals.append(max(0, (-(-side // s) - 1) * s + reach - side))
            else:
                return
    small = [total // 2 for total in totals]
    large = [total - half for total, half in zip(totals, small, strict=True)]
    node.attributes["pads"] = [*small, *large] if way == "SAME_UPPER" else [*large, *small]
    node.attributes.pop("auto_pad")


def _resize(graph: Graph, node: Node) -> None:
    attributes = node.attributes
    mode = attributes.get("mode", "nearest")
    if attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        attributes.pop("extrapolation_value", None)
        if len(node.inputs) > 1:
            node.inputs[1] = ""
    if mode != "cubic":
        attributes.pop("cubic_coeff_a", None)
        if not attributes.get("antialias"):
            attributes.pop("exclude_outside", None)
    if mode != "nearest":
        attributes.pop("nearest_mode", None)
    if not attributes.get("axes"):
        attributes.pop("axes", None)
    if len(node.inputs) <= 3:
        attributes.pop("keep_aspect_ratio_policy", None)
    elif node.inputs[2] in graph.constants and not graph.constants[node.inputs[2]].size:
        node.inputs[2] = ""  # sizes are given; older exporters write empty scales beside them
    _scales_of_all_axes(graph, node)


def _scales_of_all_axes(graph: Graph, node: Node) -> None:
    """Sizes stay as they are: they need not be whole multiples."""
    if len(node.inputs) == 3 and node.inputs[2] in graph.constants:
        scales = graph.constants[node.inputs[2]]
        axes = node.attributes.get("axes")
        rank = graph.rank_of(node.inputs[0])
        if axes and rank:
            every = np.ones(rank, np.float32)
            every[[axis % rank for axis in axes]] = scales
            node.inputs[2] = graph.add_constant(every)
            del node.attributes["axes"]


def _perm(graph: Graph, node: Node) -> None:
    rank = graph.rank_of(node.inputs[0])
    if "perm" not in node.attributes and rank is not None:
        node.attributes["perm"] = list(range(rank))[::-1]

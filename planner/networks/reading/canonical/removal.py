"""Operators that do nothing at inference are taken out, and equal operators are computed once."""

import json

import numpy as np

from planner.networks.reading.canonical.graph import Graph, Node, trimmed

SHIFTING = {"tf_crop_and_resize", "tf_half_pixel_for_nn"}
"""With these a Resize to the same size may still take its numbers from elsewhere."""


def remove_idle(graph: Graph) -> None:
    """Take out Identity, Dropout and whatever else gives its input unchanged. Exact."""
    replaced: dict[str, str] = {}
    kept = []
    wanted = {name for node in graph.nodes for name in node.inputs} | set(graph.names_out)
    for node in graph.nodes:
        if node.type in ("Mul", "Add") and _is_neutral(graph, node.inputs[0], node.type):
            node.inputs = node.inputs[::-1]
        if _is_idle(graph, node) and not any(name in wanted for name in node.outputs[1:]):
            replaced[node.outputs[0]] = replaced.get(node.inputs[0], node.inputs[0])
        else:
            kept.append(node)
    graph.nodes = kept
    graph.replace(replaced)
    graph.drop_unused()


def _is_idle(graph: Graph, node: Node) -> bool:
    constants = graph.constants
    match node.type:
        case "Identity":
            return True
        case "Dropout":
            mode = node.inputs[2] if len(node.inputs) > 2 else ""
            return not mode or (mode in constants and not constants[mode].any())
        case "Cast":
            kind = graph.type_of(node.inputs[0]).dtype
            return kind is not None and kind == graph.type_of(node.outputs[0]).dtype
        case "Mul" | "Div" | "Add" | "Sub":
            return _is_neutral(graph, node.inputs[1], node.type)
        case "Transpose":
            perm = node.attributes.get("perm")
            return perm is not None and perm == list(range(len(perm)))
        case "Concat" | "Sum" | "Max" | "Min" | "Mean":
            return len(trimmed(node.inputs)) == 1
        case "Pad":
            pads = constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
            return pads is not None and not pads.any()
        case "Resize":
            scales = constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
            if node.attributes.get("coordinate_transformation_mode", "") in SHIFTING:
                return False
            return scales is not None and scales.size > 0 and bool((scales == 1).all())
        case "Reshape" | "Expand":
            before, after = graph.type_of(node.inputs[0]).shape, graph.type_of(node.outputs[0]).shape
            known = before is not None and all(size is not None for size in before)
            return known and before == after
        case "Slice":
            return _takes_all(graph, node)
    return False


def _is_neutral(graph: Graph, name: str, operator: str) -> bool:
    """A bare one or nought, as exporters write where a function's factor is left at its default."""
    number = graph.constants.get(name)
    return number is not None and number.ndim == 0 and bool(number == (operator in ("Mul", "Div")))


def _takes_all(graph: Graph, node: Node) -> bool:
    starts, ends, _, steps = ([*node.inputs[1:], "", ""])[:4]
    if starts not in graph.constants or ends not in graph.constants:
        return False
    if steps and (steps not in graph.constants or (graph.constants[steps] != 1).any()):
        return False
    whole = np.iinfo(np.int32).max
    return not graph.constants[starts].any() and bool((graph.constants[ends] >= whole).all())


def merge_equal(graph: Graph) -> None:
    """Compute equal operators on the same values once. Exact."""
    first: dict[tuple[str, ...], Node] = {}
    spelled: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    replaced: dict[str, str] = {}
    for name, value in graph.constants.items():
        if value.dtype.kind in "iub" and value.nbytes <= 1024:
            kept_name = spelled.setdefault((value.dtype.str, value.shape, value.tobytes()), name)
            if kept_name != name:
                replaced[name] = kept_name
    kept = []
    for node in graph.nodes:
        node.inputs = [replaced.get(name, name) for name in node.inputs]
        present = "".join("1" if name else "0" for name in node.outputs)
        key = (node.type, present, json.dumps(node.attributes, sort_keys=True), *node.inputs)
        twin = first.setdefault(key, node)
        if twin is node:
            kept.append(node)
        else:
            replaced |= {old: new for old, new in zip(node.outputs, twin.outputs, strict=True) if old}
    graph.nodes = kept
    graph.names_out = [replaced.get(name, name) for name in graph.names_out]
    graph.drop_unused()

"""Local functions of a model written out where they are called, as long as that stays small."""

from pathlib import Path

import onnx
import onnx.inliner

from planner.networks.errors import NetworkRefused, NotOpenable
from planner.networks.reading.limits import Limits


def written_out(model: onnx.ModelProto, limits: Limits, path: Path) -> onnx.ModelProto:
    """The model without functions.

    Raises: NetworkRefused: cycle, where functions call themselves; too-large, where few lines would become
    more operators than `limits.nodes`. NotOpenable: control-flow, inside a function.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    waiting = [(key, False) for key in functions]
    open_calls: set[tuple[str, str]] = set()
    while waiting:
        key, finished = waiting.pop()
        if key in sizes:
            continue
        nodes = functions[key].node
        if any(attribute.HasField("g") or attribute.graphs for node in nodes for attribute in node.attribute):
            raise NotOpenable("control-flow", f"function {key[1][:60]} holds graphs")
        calls = [(node.domain, node.op_type) for node in nodes]
        if finished:
            open_calls.discard(key)
            sizes[key] = sum(sizes.get(call, 1) for call in calls)
            continue
        if key in open_calls:
            continue
        open_calls.add(key)
        waiting.append((key, True))
        for call in set(calls):
            if call in open_calls:
                raise NetworkRefused(path, "cycle", "functions that call themselves")
            if call in functions and call not in sizes:
                waiting.append((call, False))
    total = sum(sizes.get((node.domain, node.op_type), 1) for node in model.graph.node)
    if total > limits.nodes:
        raise NetworkRefused(
            path, "too-large", f"more than {limits.nodes} operators with functions written out"
        )
    return onnx.inliner.inline_local_functions(model)

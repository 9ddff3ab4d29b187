"""Networks in canonical form: opened and written again, do their outputs stay, and do two of them meet?

stays_itself(model, folder, feeds)    opened, with its outputs compared, and opened again as it was written
meet(one, other)                      equal structures, and tensors equal within a tolerance
plain(net)                            one convolution, for others to be compared with
shuffled(model, 1)                    the same network under other names and in another order
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from planner.networks.reading.opening import open_network
from planner.networks.reading.write import model_bytes, to_onnx
from planner.networks.structure import Opened, read_structure
from tests.networks import largest_difference, run, saved
from tests.written_graphs import Net, conv

Array = NDArray[Any]
TOLERANCE = 1e-5
X = {"x": np.random.default_rng(5).normal(size=(2, 4, 6, 8)).astype(np.float32)}


def opened_as(model: onnx.ModelProto, folder: Path) -> Opened:
    return open_network(saved(folder, model))


def meet(one: Opened, other: Opened, tolerance: float = 1e-6) -> None:
    assert one.structure.to_bytes() == other.structure.to_bytes()
    for name, _, value in one.typed_tensors():
        np.testing.assert_allclose(other.tensors[name], value, rtol=tolerance, atol=tolerance)


def stays_itself(model: onnx.ModelProto, folder: Path, feeds: dict[str, Array]) -> Opened:
    """Open; check that outputs stay, and that the canonical form of the result is the same bytes."""
    opened = opened_as(model, folder)
    written = to_onnx(opened.structure, opened.tensors)
    onnx.checker.check_model(written, full_check=True)
    ours = run(written, {f"x{opened.input_names.index(name)}": value for name, value in feeds.items()})
    assert largest_difference(ours, run(model, feeds)) <= TOLERANCE
    again = opened_as(written, folder)
    assert model_bytes(to_onnx(again.structure, again.tensors)) == model_bytes(written)
    assert read_structure(opened.structure.to_bytes()) == opened.structure
    return opened


def plain(net: Net) -> str:
    value = conv(net, "x", net.weights(4, 4, 3, 3), net.weights(4))
    return net.add("Relu", value)


def shuffled(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Other names, another order of nodes and tensors, Constants for half the tensors."""
    draw = random.Random(seed)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    names: dict[str, str] = {"": ""}

    def named(name: str) -> str:
        return names.setdefault(name, f"n{draw.getrandbits(60):x}")

    for node in graph.node:
        node.name = f"{draw.getrandbits(30):x}"
        for values in (node.input, node.output):
            values[:] = [named(name) for name in values]
    for held in (graph.initializer, graph.input, graph.output):
        for item in held:
            item.name = named(item.name)
    nodes, tensors = list(graph.node), list(graph.initializer)
    draw.shuffle(tensors)
    as_nodes, kept = tensors[::2], tensors[1::2]
    nodes += [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in as_nodes]
    draw.shuffle(nodes)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return result

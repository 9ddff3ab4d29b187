"""Networks that no machine can run: a few hundred bytes that never end or ask for hundreds of gigabytes.

Each takes pictures x [n, 1, h, w] and gives y [n, 3, h, w]. Those with control flow stay opaque, so nobody
runs them before a pipeline does; the one that is opened behaves on small pictures, as it is opened on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

_ENDLESS = np.iinfo(np.int64).max

_LARGE = 100
"""Rows from which on a picture is large: more than a network is opened on, fewer than it is fed of a CT."""


def endless_loop(folder: Path) -> Path:
    """A Loop that takes a hundred thousand years, in no memory to speak of. Opaque."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes"]),
            helper.make_node("Mul", ["now", "half"], ["halved"]),
            helper.make_node("Add", ["halved", "half"], ["then"]),
        ],
        "body",
        [_port("turn", TensorProto.INT64, []), _port("going", TensorProto.BOOL, []), _picture("now", 1)],
        [_port("goes", TensorProto.BOOL, []), _picture("then", 1)],
    )
    made = [
        _constant("turns", np.array(_ENDLESS, np.int64)),
        _constant("true", np.array(True)),
        _constant("half", np.array(0.5, np.float32)),
        helper.make_node("Loop", ["turns", "true", "x"], ["looped"], body=body),
    ]
    return _saved(folder, "endless-loop", made, "looped")


def enormous_branch(folder: Path) -> Path:
    """An If whose branch fills 400 GB with noughts. Opaque."""
    sides = np.array([1, 1, 320_000, 320_000], np.int64)
    then = [_constant("sides", sides), helper.make_node("ConstantOfShape", ["sides"], ["filled"])]
    return _saved(folder, "enormous-branch", _branched(then), "added")


def enormous_convolution(folder: Path) -> Path:
    """An If whose branch is a convolution padded to 300 000 x 300 000. Opaque."""
    then = [
        _constant("filter", np.ones((1, 1, 3, 3), np.float32)),
        helper.make_node("Conv", ["x", "filter"], ["filled"], pads=[150_000] * 4),
    ]
    return _saved(folder, "enormous-convolution", _branched(then), "added")


def enormous_when_large(folder: Path) -> Path:
    """Opened: pictures of _LARGE rows or more are expanded to terabytes, smaller ones not at all."""
    made = [
        _constant("rows", np.array([2], np.int64)),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "rows"], ["height"]),
        _constant("large", np.array([_LARGE], np.int64)),
        helper.make_node("Div", ["height", "large"], ["is_large"]),  # 0, or 1 and more
        _constant("many", np.array([10_000_000], np.int64)),
        helper.make_node("Mul", ["is_large", "many"], ["more"]),
        _constant("one", np.array([1], np.int64)),
        helper.make_node("Add", ["more", "one"], ["times"]),
        helper.make_node("Concat", ["times", "one", "one", "one", "one"], ["sides"], axis=0),
        helper.make_node("Expand", ["x", "sides"], ["filled"]),
        helper.make_node("ReduceMax", ["filled"], ["reduced"], axes=[0], keepdims=0),
    ]
    return _saved(folder, "enormous-when-large", made, "reduced")


OPAQUE: dict[str, Callable[[Path], Path]] = {
    "an endless loop": endless_loop,
    "an enormous branch": enormous_branch,
    "an enormous convolution": enormous_convolution,
}


def _branched(then: list[NodeProto]) -> list[NodeProto]:
    """`added`: x plus the largest number that `then` fills; the other branch is there for the form."""
    one = [1, 1, 1, 1]
    largest = helper.make_node("ReduceMax", ["filled"], ["most"], keepdims=1)
    least = _constant("least", np.zeros(one, np.float32))
    branches = {
        "then_branch": helper.make_graph(
            [*then, largest], "then", [], [_port("most", TensorProto.FLOAT, one)]
        ),
        "else_branch": helper.make_graph([least], "else", [], [_port("least", TensorProto.FLOAT, one)]),
    }
    return [
        helper.make_node("ReduceMax", ["x"], ["brightest"], keepdims=0),
        _constant("dark", np.array(-1e9, np.float32)),
        helper.make_node("Greater", ["brightest", "dark"], ["always"]),
        helper.make_node("If", ["always"], ["chosen"], **branches),
        helper.make_node("Add", ["x", "chosen"], ["added"]),
    ]


def _saved(folder: Path, name: str, nodes: Sequence[NodeProto], last: str) -> Path:
    """The value `last` as each of three classes."""
    classes = helper.make_node("Concat", [last] * 3, ["y"], axis=1)
    graph = helper.make_graph([*nodes, classes], name, [_picture("x", 1)], [_picture("y", 3)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def _constant(name: str, value: NDArray[Any]) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))


def _picture(name: str, channels: int) -> ValueInfoProto:
    return _port(name, TensorProto.FLOAT, ["n", channels, "h", "w"])


def _port(name: str, kind: int, shape: Sequence[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)

"""Files that would harm a reader of networks, and the word that each is to be refused with.

A few are good: those are `opened`, as a limit that refuses them would be too narrow.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.networks import saved, unet
from tests.written_graphs import Array, model_of, node

FREE = ("n", 4, "h", "w")
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]


def elsewhere(
    folder: Path, nodes: list[onnx.NodeProto], dims: list[int], shape: Sequence[int | str] = FREE, **at: str
) -> Path:
    """A network whose tensor `w`, float32 of these sizes, lies in another file. at: where, as ONNX says."""
    model = model_of(nodes, shape=shape)
    model.graph.initializer.append(tensor_elsewhere(dims, name="w", **at))
    return saved(folder, model)


def tensor_elsewhere(dims: list[int], name: str = "", **at: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in at.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def sparse_file(path: Path, size: int) -> None:
    """`size` noughts that take no place on disk."""
    with path.open("wb") as file:
        file.truncate(size)


def with_external(folder: Path, location: str, **at: str) -> Path:
    """A network whose one tensor, float32[8], lies elsewhere."""
    where = {"location": location, "offset": "0", **at}
    return elsewhere(folder, [node("Add", ["x", "w"], ["y"])], [8], ("n", 8), **where)


def with_dims(folder: Path, dims: list[int], raw: bytes) -> Path:
    model = model_of([node("Add", ["x", "w"], ["y"])], shape=("n", 8))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, raw_data=raw)
    tensor.dims.extend(dims)
    model.graph.initializer.append(tensor)
    return saved(folder, model)


def cycle(folder: Path) -> Path:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    return saved(folder, model_of(nodes))


def bomb(folder: Path) -> Path:
    """Constants that make 4 TB of ones."""
    made = node("ConstantOfShape", ["s"], ["ones"], value=numpy_helper.from_array(np.ones(1, np.float32)))
    sides = {"s": np.array([1 << 20, 1 << 20], np.int64)}
    return saved(folder, model_of([made, node("Add", ["x", "ones"], ["y"])], sides))


def repeated_bomb(operator: str) -> Callable[[Path], Path]:
    """Expand or Tile that makes 2 TB of a single one."""

    def write(folder: Path) -> Path:
        tensors: dict[str, Array] = {
            "one": np.ones((1, 1), np.float32),
            "s": np.array([1 << 20, 1 << 19], np.int64),
        }
        nodes = [node(operator, ["one", "s"], ["e"]), node("Add", ["x", "e"], ["y"])]
        return saved(folder, model_of(nodes, tensors))

    return write


def joined(times: tuple[int, ...]) -> onnx.ModelProto:
    """16 KB, joined to itself so many times, and the result again."""
    nodes, last = [], "c"
    for place, count in enumerate(times):
        nodes.append(node("Concat", [last] * count, [f"j{place}"], axis=0))
        last = f"j{place}"
    nodes += [node("ReduceMax", [last], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
    return model_of(nodes, {"c": np.ones(4096, np.float32)})


def concat_bomb(folder: Path) -> Path:
    """400 MB of ones from 16 KB."""
    return saved(folder, joined((32, 32, 24)))


def many_concats(folder: Path) -> Path:
    """Each is small, and all of them together are 500 MB."""
    nodes = [node("Concat", ["c"] * 60, [f"j{place}"], axis=0) for place in range(520)]
    nodes += [node("ReduceMax", [f"j{place}"], [f"m{place}"], keepdims=0) for place in range(520)]
    nodes += [node("Sum", ["x", *(f"m{place}" for place in range(520))], ["y"])]
    return saved(folder, model_of(nodes, {"c": np.ones(4096, np.float32)}))


def tensor_attribute(folder: Path) -> Path:
    """An attribute that Relu does not have, of eight million numbers in a file without a byte on disk."""
    count = 8_000_000
    sparse_file(folder / "w.bin", 4 * count)
    made = node("Relu", ["x"], ["y"])
    held = made.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    held.t.CopyFrom(tensor_elsewhere([count], location="w.bin", length=str(4 * count)))
    return saved(folder, model_of([made]))


def filled_with_many(folder: Path) -> Path:
    many = numpy_helper.from_array(np.ones(1 << 20, np.float32))
    made = node("ConstantOfShape", ["s"], ["ones"], value=many)
    return saved(folder, model_of([made, node("Add", ["x", "ones"], ["y"])], {"s": np.array([4], np.int64)}))


def field(number: int, data: bytes) -> bytes:
    """One field of a message, as protobuf writes it: onnx itself would not write what we need."""
    size, length = [], len(data)
    while length >= 0x80:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + data


def with_graph(content: bytes) -> bytes:
    """A model of IR version 9 whose graph has this content."""
    return b"\x08\x09" + field(7, content)


def crumbs(folder: Path) -> Path:
    """Ten million fields of two bytes each, in a node."""
    return raw(with_graph(field(1, b"\x18\x00" * 10_000_000)))(folder)


def deep(folder: Path) -> Path:
    """An If in an If in an If ..., three thousand times."""
    graph = b""
    for _ in range(3000):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    return raw(with_graph(graph))(folder)


def function_bomb(folder: Path) -> Path:
    """Thirty functions, each calling the next twice: a thousand million operators."""
    functions = []
    for place in range(30):
        inner = "Relu" if place == 29 else f"f{place + 1}"
        domain = "" if place == 29 else "local"
        body = [
            helper.make_node(inner, ["a"], ["m"], domain=domain),
            helper.make_node(inner, ["m"], ["b"], domain=domain),
        ]
        functions.append(helper.make_function("local", f"f{place}", ["a"], ["b"], body, OPSETS))
    calls = [helper.make_node("f0", ["x"], ["y"], domain="local")]
    return saved(folder, model_of(calls, functions=functions))


def calling_itself(folder: Path) -> Path:
    body = [helper.make_node("f", ["a"], ["b"], domain="local")]
    function = helper.make_function("local", "f", ["a"], ["b"], body, OPSETS)
    calls = [helper.make_node("f", ["x"], ["y"], domain="local")]
    return saved(folder, model_of(calls, functions=[function]))


def exploding_size(folder: Path) -> Path:
    """A size squared ten thousand times: a number of 10 ** 3000 digits."""
    nodes = [node("Shape", ["x"], ["s0"])]
    nodes += [node("Mul", [f"s{n}"] * 2, [f"s{n + 1}"]) for n in range(10_000)]
    return saved(folder, model_of([*nodes, node("Reshape", ["x", "s10000"], ["y"])]))


def many_nodes(folder: Path) -> Path:
    nodes = [node("Relu", ["x" if n == 0 else f"v{n - 1}"], [f"v{n}"]) for n in range(25_000)]
    return saved(folder, model_of(nodes, outputs=("v24999",)))


def raw(data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(data)
        return path

    return write


def cut_short(folder: Path) -> Path:
    return raw(unet(0).SerializeToString()[:-3000])(folder)


def damaged(folder: Path) -> Path:
    """The length of a node inside the graph made longer than the graph."""
    data = bytearray(model_of([node("Relu", ["x"], ["y"])]).SerializeToString())
    place = data.index(b"\x0a\x01x\x12\x01y")  # the node's inputs and outputs
    data[place + 1] = 0x7F
    return raw(bytes(data))(folder)


def twice(folder: Path) -> Path:
    model = model_of([node("Relu", ["x"], ["y"]), node("Relu", ["x"], ["y"])])
    return saved(folder, model)


def twin_tensors(folder: Path) -> Path:
    model = model_of([node("Add", ["x", "w"], ["y"])], {"w": np.ones(4, np.float32)})
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "w"))
    return saved(folder, model)


def link_out(folder: Path) -> Path:
    (folder.parent / "secret.bin").write_bytes(b"\0" * 64)
    (folder / "w.bin").symlink_to(folder.parent / "secret.bin")
    return with_external(folder, "w.bin")


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "w.bin")
    return with_external(folder, "w.bin")


def short_file(folder: Path) -> Path:
    (folder / "w.bin").write_bytes(b"\0" * 31)
    return with_external(folder, "w.bin")


def too_much_beside(folder: Path) -> Path:
    """32 GB in a file without contents."""
    sparse_file(folder / "w.bin", 32 << 30)
    return elsewhere(folder, [node("Add", ["x", "w"], ["y"])], [1 << 33], location="w.bin")


def three_gigabytes(folder: Path) -> Path:
    """A network that is as it should be: an embedding of 3 GB in a file without contents."""
    rows, columns = 12_000_000, 64
    sparse_file(folder / "w.bin", rows * columns * 4)
    nodes = [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Gather", ["w", "i"], ["y"])]
    return elsewhere(folder, nodes, [rows, columns], location="w.bin")


def sized_input(folder: Path) -> Path:
    return saved(folder, model_of([node("Relu", ["x"], ["y"])], shape=(-5, 1 << 50)))


def wrong_operands(folder: Path) -> Path:
    return saved(folder, model_of([node("Conv", ["x"], ["y"])]))


def from_nowhere(folder: Path) -> Path:
    return saved(folder, model_of([node("Add", ["x", "nothing"], ["y"])]))


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an empty file": (raw(b""), "not-onnx"),
    "a text": (raw(b"This is no network, and says so in plain words.\n" * 40), "not-onnx"),
    "an archive": (raw(b"PK\x03\x04" + bytes(range(256)) * 20), "not-onnx"),
    "noise": (raw(np.random.default_rng(0).bytes(1 << 20)), "not-onnx"),
    "a file cut short": (cut_short, "truncated"),
    "a length beyond its message": (damaged, "corrupt"),
    "values that need each other": (cycle, "cycle"),
    "functions that call themselves": (calling_itself, "cycle"),
    "functions that multiply": (function_bomb, "too-large"),
    "too many operators": (many_nodes, "too-large"),
    "graphs nested three thousand deep": (deep, "nesting"),
    "two values of one name": (twice, "duplicate-name"),
    "two tensors of one name": (twin_tensors, "duplicate-name"),
    "an operand from nowhere": (from_nowhere, "invalid"),
    "an operator without its operands": (wrong_operands, "invalid"),
    "more numbers than bytes": (
        lambda f: with_dims(f, [1 << 20, 8], b"\0" * 32),
        "absurd-shape",
    ),
    "a shape beyond 64 bits": (lambda f: with_dims(f, [1 << 40] * 4, b"\0" * 32), "absurd-shape"),
    "a negative size": (lambda f: with_dims(f, [-8], b"\0" * 32), "absurd-shape"),
    "a hundred axes": (lambda f: with_dims(f, [1] * 100, b"\0" * 4), "absurd-shape"),
    "an input of absurd size": (sized_input, "absurd-shape"),
    "a constant of a shape": (bomb, "absurd-shape"),
    "an expanded constant": (repeated_bomb("Expand"), "absurd-shape"),
    "a tiled constant": (repeated_bomb("Tile"), "absurd-shape"),
    "a constant joined to itself": (concat_bomb, "absurd-shape"),
    "many constants joined to themselves": (many_concats, "absurd-shape"),
    "a tensor in an attribute that does not exist": (tensor_attribute, "invalid"),
    "a tensor for a single number": (filled_with_many, "invalid"),
    "fields without end": (crumbs, "too-large"),
    "data above the folder": (lambda f: with_external(f, "../secret.bin"), "path-traversal"),
    "data above the folder by a detour": (lambda f: with_external(f, "a/../../secret.bin"), "path-traversal"),
    "data at an absolute path": (lambda f: with_external(f, "/etc/passwd"), "path-traversal"),
    "data behind a link that leaves": (link_out, "path-traversal"),
    "data without a location": (lambda f: with_external(f, ""), "path-traversal"),
    "data that is missing": (lambda f: with_external(f, "gone.bin"), "missing-data"),
    "data in a pipe": (fifo, "missing-data"),
    "data in a file too short": (short_file, "truncated"),
    "data at a negative offset": (lambda f: with_external(f, "w.bin", offset="-4"), "corrupt"),
    "data of another length": (lambda f: with_external(f, "w.bin", length="31"), "absurd-shape"),
    "more data than allowed": (too_much_beside, "too-large"),
    "a size that explodes": (exploding_size, "opened"),
    "three good gigabytes": (three_gigabytes, "opened"),
}

"""Reading ONNX files: what is taken, what is refused by name, and that neither costs much memory or time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from planner.networks.errors import NetworkRefused, NotOpenable
from planner.networks.reading.limits import Limits
from planner.networks.reading.opening import open_network
from planner.networks.reading.write import to_onnx
from tests.conftest import REPOSITORY
from tests.networks import image, largest_difference, run, unet

MOST_SECONDS = 30.0
"""For one hostile file, on a busy machine; most take milliseconds."""
MOST_BYTES = 96 << 20
"""Resident memory beyond that of the imports, at its highest over all hostile files together."""


def model_of(
    nodes: list[onnx.NodeProto],
    tensors: dict[str, NDArray[Any]] | None = None,
    *,
    outputs: tuple[str, ...] = ("y",),
    shape: tuple[int | str, ...] = ("n", 4, "h", "w"),
    opset: int = 17,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    """`x` float32 of this shape -> outputs, unchecked."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (tensors or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, functions=functions or [])


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, outputs, **attributes)


def save(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def with_external(folder: Path, location: str, *, offset: str = "0", length: str | None = None) -> Path:
    """A network whose one tensor, float32[8], lies elsewhere."""
    model = model_of([node("Add", ["x", "w"], ["y"])], shape=("n", 8))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8])
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, **({} if length is None else {"length": length})}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    return save(folder, model)


def with_dims(folder: Path, dims: list[int], raw: bytes) -> Path:
    model = model_of([node("Add", ["x", "w"], ["y"])], shape=("n", 8))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, raw_data=raw)
    tensor.dims.extend(dims)
    model.graph.initializer.append(tensor)
    return save(folder, model)


def cycle(folder: Path) -> Path:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    return save(folder, model_of(nodes))


def bomb(folder: Path) -> Path:
    """Constants that make 4 TB of ones."""
    made = node("ConstantOfShape", ["s"], ["ones"], value=numpy_helper.from_array(np.ones(1, np.float32)))
    sides = {"s": np.array([1 << 20, 1 << 20], np.int64)}
    return save(folder, model_of([made, node("Add", ["x", "ones"], ["y"])], sides))


def expand_bomb(folder: Path) -> Path:
    sides: dict[str, NDArray[Any]] = {
        "one": np.ones((1, 1), np.float32),
        "s": np.array([1 << 20, 1 << 19], np.int64),
    }
    return save(
        folder, model_of([node("Expand", ["one", "s"], ["e"]), node("Add", ["x", "e"], ["y"])], sides)
    )


def tile_bomb(folder: Path) -> Path:
    sides: dict[str, NDArray[Any]] = {
        "one": np.ones((1, 1), np.float32),
        "s": np.array([1 << 20, 1 << 19], np.int64),
    }
    return save(folder, model_of([node("Tile", ["one", "s"], ["e"]), node("Add", ["x", "e"], ["y"])], sides))


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
    return save(folder, joined((32, 32, 24)))


def many_concats(folder: Path) -> Path:
    """Each is small, and all of them together are 500 MB."""
    nodes = [node("Concat", ["c"] * 60, [f"j{place}"], axis=0) for place in range(520)]
    nodes += [node("ReduceMax", [f"j{place}"], [f"m{place}"], keepdims=0) for place in range(520)]
    nodes += [node("Sum", ["x", *(f"m{place}" for place in range(520))], ["y"])]
    return save(folder, model_of(nodes, {"c": np.ones(4096, np.float32)}))


def tensor_attribute(folder: Path) -> Path:
    """An attribute that Relu does not have, of eight million numbers in a file without a byte on disk."""
    count = 8_000_000
    with open(folder / "w.bin", "wb") as file:
        file.truncate(4 * count)
    made = node("Relu", ["x"], ["y"])
    held = made.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    held.t.CopyFrom(
        TensorProto(data_type=TensorProto.FLOAT, dims=[count], data_location=TensorProto.EXTERNAL)
    )
    for key, value in (("location", "w.bin"), ("length", str(4 * count))):
        held.t.external_data.add(key=key, value=value)
    return save(folder, model_of([made]))


def filled_with_many(folder: Path) -> Path:
    many = numpy_helper.from_array(np.ones(1 << 20, np.float32))
    made = node("ConstantOfShape", ["s"], ["ones"], value=many)
    return save(folder, model_of([made, node("Add", ["x", "ones"], ["y"])], {"s": np.array([4], np.int64)}))


def crumbs(folder: Path) -> Path:
    """Ten million fields of two bytes each, in a node."""
    return save_raw(folder, nested_bytes(b"\x18\x00" * 10_000_000))


def nested_bytes(content: bytes) -> bytes:
    """A model whose graph has one node of this content."""

    def field(number: int, data: bytes) -> bytes:
        size, length = [], len(data)
        while length >= 0x80:
            size.append(length & 0x7F | 0x80)
            length >>= 7
        return bytes([number << 3 | 2, *size, length]) + data

    return b"\x08\x09" + field(7, field(1, content))


def save_raw(folder: Path, data: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


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
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        functions.append(helper.make_function("local", f"f{place}", ["a"], ["b"], body, imports))
    calls = [helper.make_node("f0", ["x"], ["y"], domain="local")]
    return save(folder, model_of(calls, functions=functions))


def calling_itself(folder: Path) -> Path:
    body = [helper.make_node("f", ["a"], ["b"], domain="local")]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "f", ["a"], ["b"], body, imports)
    calls = [helper.make_node("f", ["x"], ["y"], domain="local")]
    return save(folder, model_of(calls, functions=[function]))


def nested(folder: Path, depth: int) -> bytes:
    """A model with an If in an If in an If ..., written field by field: onnx itself would not."""

    def field(number: int, data: bytes) -> bytes:
        size, head = len(data), bytearray([number << 3 | 2])
        while size >= 0x80:
            head.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes(head) + bytes([size]) + data

    graph = b""
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    return b"\x08\x09" + field(7, graph)


def deep(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(nested(folder, 3000))
    return path


def exploding_size(folder: Path) -> Path:
    """A size squared ten thousand times: a number of 10 ** 3000 digits."""
    nodes = [node("Shape", ["x"], ["s0"])]
    nodes += [node("Mul", [f"s{n}"] * 2, [f"s{n + 1}"]) for n in range(10_000)]
    return save(folder, model_of([*nodes, node("Reshape", ["x", "s10000"], ["y"])]))


def many_nodes(folder: Path) -> Path:
    nodes = [node("Relu", ["x" if n == 0 else f"v{n - 1}"], [f"v{n}"]) for n in range(25_000)]
    return save(folder, model_of(nodes, outputs=("v24999",)))


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
    return save(folder, model)


def twin_tensors(folder: Path) -> Path:
    model = model_of([node("Add", ["x", "w"], ["y"])], {"w": np.ones(4, np.float32)})
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "w"))
    return save(folder, model)


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
    with (folder / "w.bin").open("wb") as file:
        file.truncate(32 << 30)
    model = model_of([node("Add", ["x", "w"], ["y"])])
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 33])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    model.graph.initializer.append(tensor)
    return save(folder, model)


def three_gigabytes(folder: Path) -> Path:
    """A network that is as it should be: an embedding of 3 GB in a file without contents."""
    rows, columns = 12_000_000, 64
    with (folder / "w.bin").open("wb") as file:
        file.truncate(rows * columns * 4)
    model = model_of([node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Gather", ["w", "i"], ["y"])])
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, columns])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    model.graph.initializer.append(tensor)
    return save(folder, model)


def sized_input(folder: Path) -> Path:
    return save(folder, model_of([node("Relu", ["x"], ["y"])], shape=(-5, 1 << 50)))


def wrong_operands(folder: Path) -> Path:
    return save(folder, model_of([node("Conv", ["x"], ["y"])]))


def from_nowhere(folder: Path) -> Path:
    return save(folder, model_of([node("Add", ["x", "nothing"], ["y"])]))


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
    "an expanded constant": (expand_bomb, "absurd-shape"),
    "a tiled constant": (tile_bomb, "absurd-shape"),
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

CHILD = """
import json, resource, sys, time
from pathlib import Path
from planner.networks.errors import NetworkRefused, NotOpenable
from planner.networks.reading.opening import open_network
from tests.networks import unet
warm = Path(sys.argv[1]) / "warm.onnx"
warm.write_bytes(unet(0).SerializeToString())
open_network(warm)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[2:]:
    start = time.perf_counter()
    try:
        open_network(Path(name))
        reason = "opened"
    except NetworkRefused as error:
        reason = error.reason
    except NotOpenable as error:
        reason = "not openable: " + error.reason
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    sys.stdout.write(json.dumps([reason, seconds, grown]) + chr(10))
    sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, int]]:
    """What one process says of every case: reason, seconds, and the most memory it grew by until then."""
    root = tmp_path_factory.mktemp("hostile")
    paths = []
    for place, (make, _) in enumerate(CASES.values()):
        folder = root / str(place) / "model"
        folder.mkdir(parents=True)
        paths.append(str(make(folder)))
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(root), *paths],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(lines) == len(CASES), f"died after {len(lines)} cases: {child.stderr[-2000:]}"
    return dict(zip(CASES, lines, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_each_bad_file_is_refused_by_name_and_soon(
    case: str, answers: dict[str, tuple[str, float, int]]
) -> None:
    reason, seconds, _ = answers[case]
    assert reason == CASES[case][1]
    assert seconds < MOST_SECONDS


@pytest.mark.parametrize("case", CASES)
def test_no_file_good_or_bad_makes_the_reader_grow(
    case: str, answers: dict[str, tuple[str, float, int]]
) -> None:
    _, _, grown = answers[case]
    assert grown < MOST_BYTES


def test_limits_can_be_narrower(tmp_path: Path) -> None:
    path = save(tmp_path, unet(0))
    with pytest.raises(NetworkRefused) as refused:
        open_network(path, limits=Limits(nodes=5))
    assert refused.value.reason == "too-large"
    with pytest.raises(NetworkRefused) as refused:
        open_network(path, limits=Limits(file_bytes=1000))
    assert refused.value.reason == "too-large"
    for narrow in (Limits(fields=100), Limits(parsed_bytes=100)):
        with pytest.raises(NetworkRefused) as refused:
            open_network(path, limits=narrow)
        assert refused.value.reason == "too-large"
    save(tmp_path, joined((8,)))
    assert open_network(path).structure.ops[0].type == "Add"
    with pytest.raises(NetworkRefused) as refused:
        open_network(path, limits=Limits(folded_bytes=100_000))
    assert refused.value.reason == "absurd-shape"


def test_numbers_that_are_only_moved_stay_where_they_are_beyond_the_limit(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    nodes = [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])]
    path = save(tmp_path, model_of(nodes, {"w": weights}, shape=("n", 64)))
    folded = open_network(path).structure
    left = open_network(path, limits=Limits(folded_bytes=10_000)).structure
    assert [op.type for op in folded.ops] == ["MatMul", "Mul", "Add"]
    assert [op.type for op in left.ops] == ["Transpose", "MatMul"]


def test_every_prefix_and_many_damaged_copies_are_refused_or_opened_but_never_crash(tmp_path: Path) -> None:
    data = unet(1, (4,)).SerializeToString()
    numbers = np.random.default_rng(1)
    copies = [data[: int(place)] for place in np.linspace(0, len(data) - 1, 60)]
    for _ in range(150):
        damaged_copy = bytearray(data)
        for place in numbers.integers(0, len(data), 3):
            damaged_copy[place] = numbers.integers(0, 256)
        copies.append(bytes(damaged_copy))
    refused = 0
    for copy in copies:
        (tmp_path / "model.onnx").write_bytes(copy)
        try:
            open_network(tmp_path / "model.onnx")
        except (NetworkRefused, NotOpenable):
            refused += 1
    assert refused >= 60  # every prefix, and whatever noise hit more than weights


def loop_model() -> onnx.ModelProto:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node("Relu", ["x"], [name])], name, [], [out])

    test = numpy_helper.from_array(np.array(True), "c")
    both = {"then_branch": branch("a"), "else_branch": branch("b")}
    model = model_of([node("If", ["c"], ["y"], **both)])
    model.graph.initializer.append(test)
    return model


NOT_OPENABLE: dict[str, tuple[onnx.ModelProto, str]] = {
    "control flow": (loop_model(), "control-flow"),
    "an operator of another domain": (
        model_of([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]),
        "custom-operator",
    ),
    "an operator nobody knows": (model_of([node("Frobnicate", ["x"], ["y"])]), "custom-operator"),
    "sequences": (
        model_of([node("SequenceConstruct", ["x"], ["s"]), node("SequenceLength", ["s"], ["y"])]),
        "sequence",
    ),
    "chance": (model_of([node("RandomNormalLike", ["x"], ["y"])]), "random"),
    "an opset too old": (model_of([node("Relu", ["x"], ["y"])], opset=9), "unknown-opset"),
    "an opset too new": (model_of([node("Relu", ["x"], ["y"])], opset=99), "unknown-opset"),
    "text": (
        model_of([node("Constant", [], ["s"], value_string="a"), node("Add", ["x", "s"], ["y"])]),
        "data-type",
    ),
}


@pytest.mark.parametrize("case", NOT_OPENABLE)
def test_what_is_fine_but_not_understood_stays_closed_and_says_why(case: str, tmp_path: Path) -> None:
    model, reason = NOT_OPENABLE[case]
    with pytest.raises(NotOpenable) as closed:
        open_network(save(tmp_path, model))
    assert closed.value.reason == reason


@pytest.mark.parametrize("beside", ["weights.bin", "deeper/weights.bin"])
def test_external_data_gives_the_same_network(beside: str, tmp_path: Path) -> None:
    model = unet(2)
    inside = open_network(save(tmp_path, model))
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    onnx.save_model(
        model,
        str(tmp_path / "outside.onnx"),
        save_as_external_data=True,
        location=beside,
        size_threshold=0,
    )
    outside = open_network(tmp_path / "outside.onnx")
    assert outside.structure.to_bytes() == inside.structure.to_bytes()
    for name, _, value in inside.typed_tensors():
        np.testing.assert_array_equal(outside.tensors[name], value)


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (tmp_path / "w.bin").symlink_to("real.bin")
    opened = open_network(with_external(tmp_path, "w.bin"))
    np.testing.assert_array_equal(opened.tensors["t0"], np.arange(8, dtype=np.float32))


def test_tensors_may_be_written_in_typed_fields(tmp_path: Path) -> None:
    model = unet(2)
    raw_model = open_network(save(tmp_path, model))
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(value.ravel().tolist())
    typed = open_network(save(tmp_path, model))
    assert typed.structure.to_bytes() == raw_model.structure.to_bytes()
    for name, _, value in raw_model.typed_tensors():
        np.testing.assert_array_equal(typed.tensors[name], value)


def test_large_tensors_are_not_copied(tmp_path: Path) -> None:
    opened = open_network(save(tmp_path, unet(0, (32, 64))))
    large = [value for _, kind, value in opened.typed_tensors() if kind.nbytes >= 64 * 1024]
    assert large
    assert not any(value.flags.owndata or value.flags.writeable for value in large)


def overridable() -> onnx.ModelProto:
    """Normalisation tensors are inputs with defaults, as a network of the zoo has them."""
    model = unet(4)
    for tensor in model.graph.initializer:
        if ".norm." in tensor.name:
            port = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims))
            model.graph.input.append(port)
    return model


def test_an_input_with_a_default_is_a_tensor_and_no_input(tmp_path: Path) -> None:
    opened = open_network(save(tmp_path, overridable()))
    assert opened.input_names == ("input",)
    assert opened.structure.to_bytes() == open_network(save(tmp_path, unet(4))).structure.to_bytes()


def test_overrides_make_the_variant_that_onnxruntime_runs_with_them(tmp_path: Path) -> None:
    model, other = overridable(), unet(4, norm_seed=99)
    overrides = {t.name: numpy_helper.to_array(t) for t in other.graph.initializer if ".norm." in t.name}
    opened = open_network(save(tmp_path, model), overrides)
    feeds = image(other, 0)
    ours = run(to_onnx(opened.structure, opened.tensors), {"x0": feeds["input"]})
    assert largest_difference(ours, run(model, {**feeds, **overrides})) < 1e-5
    assert largest_difference(ours, run(model, feeds)) > 1e-2


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"down0.0.norm.nothing": np.zeros(8, np.float32)}, "unknown-tensor"),
        ({"down0.0.norm.mean": np.zeros(9, np.float32)}, "wrong-shape"),
        ({"down0.0.norm.mean": np.zeros(8, np.float64)}, "wrong-shape"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(
    overrides: dict[str, NDArray[Any]], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(NetworkRefused, match=r"norm") as refused:
        open_network(save(tmp_path, overridable()), overrides)
    assert refused.value.reason == reason


def test_local_functions_are_written_out(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["m"]), helper.make_node("Neg", ["m"], ["b"])]
    function = helper.make_function("local", "f", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    calls = [helper.make_node("f", ["x"], ["v"], domain="local"), node("Exp", ["v"], ["y"])]
    opened = open_network(save(tmp_path, model_of(calls, functions=[function])))
    assert [op.type for op in opened.structure.ops] == ["Relu", "Neg", "Exp"]

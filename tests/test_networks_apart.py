"""What runs a stranger's network may fail in any way: the process that asked goes on, with a reason."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

import planner.cost
from object_store.opening import open_store
from planner.bind import without_measuring
from planner.networks import apart as apart_module
from planner.networks import apart_child
from planner.networks.apart import NotBorne, apart
from planner.networks.apart_child import Bounds
from planner.networks.families.members import variants
from planner.networks.families.register import register
from planner.networks.families.verify import verify_variant
from serving.cli.main import app
from tests.canonical_networks import unet as opened_unet
from tests.conftest import REPOSITORY
from tests.hostile_networks import CASES
from tests.networks import unet

NARROW = Bounds(seconds=60.0, bytes=128 << 20)
SHORT = Bounds(seconds=1.0, bytes=8 << 30)


# -- functions that are run apart: they are found by name there --------------------------------------------


class Odd(Exception):
    """Its text is not what it is made from, as pickling takes it to be."""

    def __init__(self, *, what: str) -> None:
        super().__init__(f"odd: {what}")


def doubled(array: NDArray[Any]) -> tuple[NDArray[Any], int]:
    return 2 * array, os.getpid()


def failing(kind: str) -> None:
    if kind == "key":
        raise KeyError("no such thing")
    raise Odd(what="thing")


def filled(megabytes: int) -> int:
    return int(np.ones(megabytes << 17).sum())


def saying(*words: str) -> None:
    for word in words:
        apart_child.doing(word)
    time.sleep(60)


def arrays() -> dict[str, NDArray[Any]]:
    return {"large": np.arange(1 << 20), "none": np.zeros(0), "turned": np.arange(6).reshape(2, 3).T}


def without_limits() -> int:
    """As where a system has none for address space."""
    apart_child._ADDRESS_SPACE = None
    return os.getpid()


def worn() -> int:
    apart_child.WORN_BYTES = 1
    return os.getpid()


def killed(number: int) -> None:
    os.kill(os.getpid(), number)


def left(code: int) -> None:
    os._exit(code)


# -- the process -------------------------------------------------------------------------------------------


def test_a_function_is_run_in_another_process_which_serves_the_next_call_too() -> None:
    first, process = apart(doubled, np.arange(5))
    again, same = apart(doubled, np.arange(6, dtype=np.float32)[::2])
    assert (first.tolist(), again.tolist()) == ([0, 2, 4, 6, 8], [0, 4, 8])
    assert process == same != os.getpid()


def test_errors_arrive_as_what_they_are_or_at_least_with_their_text() -> None:
    with pytest.raises(KeyError, match="no such thing"):
        apart(failing, "key")
    with pytest.raises(RuntimeError, match="Odd: odd: thing"):
        apart(failing, "odd")


def test_too_much_memory_is_said_and_the_bound_is_of_one_call_only() -> None:
    with pytest.raises(NotBorne, match=r"more than 0\.1 GiB of memory") as failed:
        apart(filled, 300, bounds=NARROW)
    assert failed.value.reason == "too-much-memory"
    assert apart(filled, 300) == 300 << 17
    with pytest.raises(NotBorne):
        apart(filled, 300, bounds=NARROW)


def test_too_much_time_is_said_and_the_next_call_is_answered() -> None:
    began = time.monotonic()
    with pytest.raises(NotBorne, match="did not come to an end in 1 s") as failed:
        apart(time.sleep, 60, bounds=SHORT)
    assert failed.value.reason == "too-slow"
    assert time.monotonic() - began < 30
    assert apart(doubled, np.ones(1))[0].tolist() == [2.0]


def test_what_the_call_last_said_that_it_is_at_is_told_if_it_is_stopped() -> None:
    with pytest.raises(NotBorne) as failed:
        apart(saying, "first", "second", bounds=SHORT)
    assert failed.value.doing == "second"
    with pytest.raises(NotBorne) as failed:
        apart(time.sleep, 60, bounds=SHORT)
    assert failed.value.doing == ""


def test_nobody_is_told_what_a_process_is_at_that_nobody_asked() -> None:
    apart_child.doing("anything")


def test_arrays_come_back_as_they_were_and_may_be_written_to() -> None:
    found = apart(arrays)
    for name, array in arrays().items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable


def test_where_memory_has_no_limit_calls_are_answered_and_time_still_has_one() -> None:
    process = apart(without_limits)
    assert apart(filled, 300, bounds=NARROW) == 300 << 17
    assert apart(os.getpid) == process
    with pytest.raises(NotBorne, match="did not come to an end"):
        apart(time.sleep, 60, bounds=SHORT)
    with pytest.raises(NotBorne, match="of memory"):  # another process, which has one
        apart(filled, 300, bounds=NARROW)


def test_a_call_is_not_lent_more_memory_than_the_machine_has() -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert Bounds(seconds=1.0, bytes=1 << 60).here() == Bounds(seconds=1.0, bytes=int(memory * 0.75))
    assert NARROW.here() == NARROW


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_said_by_its_signal_and_the_next_call_is_answered(number: signal.Signals) -> None:
    with pytest.raises(NotBorne, match=number.name) as failed:
        apart(killed, int(number))
    assert failed.value.reason == "crashes"
    assert apart(doubled, np.ones(1))[0].tolist() == [2.0]


@pytest.mark.parametrize("code", [0, 3])
def test_a_process_that_ends_without_an_answer_is_a_crash(code: int) -> None:
    with pytest.raises(NotBorne) as failed:
        apart(left, code)
    assert failed.value.reason == "crashes"


def test_a_process_that_holds_much_is_replaced_unasked() -> None:
    large = apart(worn)
    after = apart(os.getpid)
    assert large != after
    assert apart(os.getpid) == after


def test_the_process_ends_with_the_one_that_asked() -> None:
    asking = (
        "import os, sys; from planner.networks.apart import apart; sys.stdout.write(str(apart(os.getpid)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", asking], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    assert not Path(f"/proc/{int(done.stdout)}").exists()


# -- networks ----------------------------------------------------------------------------------------------


def saved(folder: Path, name: str, nodes: list[Any]) -> Path:
    """A network from a picture x of any size to three equal numbers y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 1, 1])
    nodes = [*nodes, helper.make_node("ReduceMax", [nodes[-1].output[0]], ["most"], keepdims=1)]
    nodes.append(helper.make_node("Concat", ["most"] * 3, ["y"], axis=1))
    model = helper.make_model(
        helper.make_graph(nodes, name, [x], [y]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def growing(folder: Path) -> Path:
    """A few hundred bytes that ask for petabytes: joined to themselves again and again."""
    made = [helper.make_node("Concat", ["x"] * 64, ["v0"], axis=2)]
    made += [helper.make_node("Concat", [f"v{n}"] * 64, [f"v{n + 1}"], axis=3) for n in range(6)]
    return saved(folder, "growing", made)


def endless(folder: Path) -> Path:
    """Products of large matrices, one after the other: an hour at least, in little memory."""
    made = [
        helper.make_node("Concat", ["x"] * 32, ["high"], axis=2),
        helper.make_node("Concat", ["high"] * 32, ["wide"], axis=3),
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["wide", "turned"], ["v0"]),
    ]
    made += [helper.make_node("MatMul", [f"v{n}", "v0"], [f"v{n + 1}"]) for n in range(800)]
    return saved(folder, "endless", made)


def lightbox(store: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--store", str(store)])


def pipeline(folder: Path, network: Path) -> str:
    path = folder / "mine.yaml"
    path.write_text(
        "extends: ct-lungs-net\npipeline: mine\n"
        f"steps: {{net: {{graph: {network}, input: x, batch: 1}}}}\ngolden: ~\n",
        encoding="utf-8",
    )
    return str(path)


@pytest.mark.parametrize(
    ("make", "bounds", "reason", "words"),
    [
        (growing, NARROW, "too-much-memory", "needs more than"),
        (endless, SHORT, "too-slow", "did not come to an end"),
    ],
)
def test_a_network_that_asks_for_too_much_is_refused_by_name(
    make: Any, bounds: Bounds, reason: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart_module, "BOUNDS", bounds)
    path, store = make(tmp_path), tmp_path / "store"
    added = lightbox(store, "network", "add", str(path))
    assert added.exit_code == 1, added.output
    for word in (path.name, reason, words):
        assert word in added.stdout
    compiled = lightbox(store, "compile", pipeline(tmp_path, path))
    assert compiled.exit_code == 2, compiled.output
    for word in (path.name, reason, words, "steps.net.graph"):
        assert word in compiled.stderr
    with open_store(store) as opened:
        assert opened.names.items() == {}


def test_no_hostile_file_gets_past_adding_a_network_and_a_good_one_beside_them_does(tmp_path: Path) -> None:
    bad = {name: reason for name, (_, reason) in CASES.items() if reason != "opened"}
    files = []
    for number, name in enumerate(bad):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = CASES[name][0](folder)
        files.append(made.rename(made.with_name(f"bad-{number}.onnx")))
    good = tmp_path / "good.onnx"
    onnx.save(unet(0), good)
    added = lightbox(tmp_path / "store", "network", "add", *map(str, files), str(good))
    assert added.exit_code == 1, added.output
    told = [line for line in added.stdout.splitlines() if line.startswith("not taken: ")]
    for file, reason, line in zip(files, bad.values(), told, strict=True):
        assert line.startswith(f"not taken: {file.name}: ")
        assert line.endswith(f"({reason})")
    assert "1 network," in added.stdout


@pytest.mark.parametrize("name", ["a file cut short", "a tiled constant", "data above the folder", "noise"])
def test_a_hostile_file_stops_compiling_with_one_sentence(name: str, tmp_path: Path) -> None:
    make, reason = CASES[name]
    store, folder = tmp_path / "store", tmp_path / "files"
    folder.mkdir()
    compiled = lightbox(store, "compile", pipeline(tmp_path, make(folder)))
    assert compiled.exit_code == 2, compiled.output
    assert compiled.stdout == ""
    assert f"({reason})" in compiled.stderr
    assert "steps.net.graph" in compiled.stderr
    assert "Traceback" not in compiled.stderr


def test_explaining_says_why_a_network_stayed_opaque(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner.cost, "measured_costs", lambda *args, **kwargs: without_measuring)
    store, path = tmp_path / "store", tmp_path / "own.onnx"
    mine = helper.make_node("Mine", ["x"], ["y"], domain="com.example")
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, "h", "w"])
        for name, size in (("x", 1), ("y", 3))
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(
        helper.make_graph([mine], "own", ports[:1], ports[1:]), opset_imports=opsets, ir_version=8
    )
    onnx.save(model, path)
    compiled = lightbox(store, "compile", pipeline(tmp_path, path), "ct-lungs-net")
    assert compiled.exit_code == 0, compiled.output
    told = lightbox(store, "explain", "mine")
    assert told.exit_code == 0, told.output
    assert "the network of step net stays opaque: " in told.stdout
    assert "(custom-operator)" in told.stdout
    assert "opaque" not in lightbox(store, "explain", "ct-lungs-net").stdout


def test_a_member_that_takes_too_long_to_verify_is_kept_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path / "store") as store:
        register(store, opened_unet(1, norms=1, folded=True))
        network = register(store, opened_unet(1, norms=2, folded=True)).network
        assert variants(store)[str(network)].family != str(network)
        monkeypatch.setattr(apart_module, "BOUNDS", Bounds(seconds=0.0, bytes=8 << 30))
        found = verify_variant(store, network)
        assert (found.passed, found.inputs) == (False, 0)
        assert variants(store)[str(network)].family == str(network)

"""Both engines take a graph without its large tensors, say what they cannot run, and run in many threads."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.engines.registry import engine_available, open_session
from models.errors import KernelError
from models.operators.base import NetworkSession
from object_store.local import LocalStore
from planner.networks.building.build import plain
from planner.networks.reading.opening import open_network
from tests.engines import ENGINES, needs_openvino
from tests.networks import image, largest_difference, run, unet

HINTS = {"onnxruntime": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}


def session(engine: str, model: onnx.ModelProto, folder: Path, **hints: str) -> NetworkSession:
    """The model's session, its large tensors mapped from files and read-only."""
    onnx.save(model, folder / "model.onnx")
    opened = open_network(folder / "model.onnx")
    skeleton = plain(opened.structure, opened.tensors)
    assert skeleton.large, "a network too small to show anything"
    store = LocalStore(folder / "store")
    mapped = {}
    for name, array in skeleton.large.items():
        view = store.map(store.put(array.tobytes()))
        mapped[name] = np.frombuffer(view, array.dtype).reshape(array.shape)
        assert not mapped[name].flags.writeable
    return open_session(engine, skeleton.graph, mapped, 1, {**HINTS[engine], **hints})


@pytest.mark.parametrize("engine", ENGINES)
def test_large_tensors_are_read_from_where_they_lie(engine: str, tmp_path: Path) -> None:
    model = unet(1, (16, 32))
    ours = session(engine, model, tmp_path)
    for size in (16, 32, 16):
        fed = image(model, 2, size=size)["input"]
        assert largest_difference(ours.run({"x0": fed}), run(model, {"input": fed})) < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_inputs_the_graph_does_not_take_are_named(engine: str, tmp_path: Path) -> None:
    model = unet(1, (16, 32))
    ours = session(engine, model, tmp_path)
    fed = image(model, 2)["input"]
    with pytest.raises(KernelError, match="no input z"):
        ours.run({"x0": fed, "z": fed})
    with pytest.raises(KernelError, match="not given its input x0"):
        ours.run({})
    with pytest.raises(KernelError):
        ours.run({"x0": fed.astype(np.float64)})
    with pytest.raises(KernelError):
        ours.run({"x0": fed[:, :, :3, :5]})  # the skip connections do not meet
    assert ours.run({"x0": fed})  # and it still runs


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_that_are_no_graph_are_refused(engine: str) -> None:
    with pytest.raises(KernelError, match="this graph"):
        open_session(engine, b"no graph", {}, 1, {}).run({})


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_inputs_give_equal_bytes_in_any_thread(engine: str, tmp_path: Path) -> None:
    model = unet(1, (16, 32))
    ours = session(engine, model, tmp_path, **_bf16(engine))
    fed = [image(model, number, size=16 * (1 + number % 4))["input"] for number in range(8)]
    expected = [ours.run({"x0": array})[0] for array in fed]
    wrong: list[int] = []

    def work(start: int) -> None:
        for step in range(24):
            place = (start + step) % len(fed)
            if not np.array_equal(ours.run({"x0": fed[place]})[0], expected[place]):
                wrong.append(place)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("engine", ENGINES)
def test_other_python_threads_run_while_a_network_runs(engine: str, tmp_path: Path) -> None:
    model = unet(1, (16, 32))
    ours = session(engine, model, tmp_path)
    fed = {"x0": image(model, 2, size=512)["input"]}
    ours.run(fed)
    stop, ticks = threading.Event(), 0

    def tick() -> None:
        nonlocal ticks
        while not stop.wait(0.001):
            ticks += 1

    ticking = threading.Thread(target=tick)
    ticking.start()
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < 0.5:
        ours.run(fed)
        runs += 1
    stop.set()
    ticking.join()
    assert ticks > 20, "nothing else ran"
    assert ticks > 3 * runs, "other threads ran between runs only"


@needs_openvino
def test_openvino_stays_compiled_for_a_few_shapes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.engines.openvino import SHAPES, OpenvinoSession

    model = unet(1, (16, 32))
    ours = session("openvino", model, tmp_path)
    assert isinstance(ours, OpenvinoSession)
    compiled: list[Any] = []
    real = ours._compiled

    def counted(shapes: Any) -> Any:
        compiled.append(shapes)
        return real(shapes)

    monkeypatch.setattr(ours, "_compiled", counted)

    def run_at(size: int) -> int:
        """How often it has compiled by then."""
        ours.run({"x0": image(model, 2, size=size)["input"]})
        return len(compiled)

    sizes = range(16, 16 + 2 * (SHAPES + 1), 2)
    assert [run_at(size) for size in sizes] == list(range(1, SHAPES + 2))
    assert run_at(sizes[1]) == SHAPES + 1
    assert run_at(sizes[0]) == SHAPES + 2, "the longest unused one was let go"


@needs_openvino
def test_openvino_writes_no_file_and_loads_no_reporting_of_use(tmp_path: Path) -> None:
    program = (
        "import sys; from models.engines.openvino import _core; _core();"
        "print([m for m in sys.modules if 'openvino_telemetry' in m and sys.modules[m] is not None])"
    )
    place = {"HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd()), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=place, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_engine_is_not_imported_before_it_is_used() -> None:
    program = (
        "import sys; import models.engines.registry as r, planner.resources, planner.networks.running.load;"
        "r.engine_available('openvino');"
        "print([m for m in ('onnx', 'onnxruntime', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_no_other_word_is_an_engine() -> None:
    assert not engine_available("numpy")
    with pytest.raises(ValueError, match="tensorrt"):
        open_session("tensorrt", b"", {}, 1, {})


def _bf16(engine: str) -> dict[str, Any]:
    return {"INFERENCE_PRECISION_HINT": "bf16"} if engine == "openvino" else {}

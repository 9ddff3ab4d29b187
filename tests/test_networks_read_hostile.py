"""Files that are broken or made to harm are refused by name, in bounded memory and time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from planner.networks.errors import NetworkRefused, NotOpenable
from planner.networks.reading.limits import Limits
from planner.networks.reading.opening import open_network
from tests.conftest import REPOSITORY
from tests.hostile_networks import CASES, joined
from tests.networks import saved, unet
from tests.written_graphs import model_of, node

MOST_SECONDS = 30.0
"""For one hostile file, on a busy machine; most take milliseconds."""


MOST_BYTES = 96 << 20
"""Resident memory beyond that of the imports, at its highest over all hostile files together."""


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
    path = saved(tmp_path, unet(0))
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
    saved(tmp_path, joined((8,)))
    assert open_network(path).structure.ops[0].type == "Add"
    with pytest.raises(NetworkRefused) as refused:
        open_network(path, limits=Limits(folded_bytes=100_000))
    assert refused.value.reason == "absurd-shape"


def test_numbers_that_are_only_moved_stay_where_they_are_beyond_the_limit(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    nodes = [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])]
    path = saved(tmp_path, model_of(nodes, {"w": weights}, shape=("n", 64)))
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

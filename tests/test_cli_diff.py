"""`lightbox diff` compares pipelines that were not compiled, and networks without a pipeline."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from object_store.opening import open_store
from planner.bind import without_measuring
from planner.compile import compile_pipelines
from planner.names import network_name
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from tests.networks import unet
from tests.networks_in_pipelines import with_network
from tests.test_cli_networks_told import CHANNELS, answer, lightbox, pipeline_over


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a compiled pipeline `one`, and networks of other normalisation and other structure."""
    folder = tmp_path_factory.mktemp("networks")
    with open_store(folder / "store") as store:
        models = {
            "base": unet(3, CHANNELS),
            "north": unet(3, CHANNELS, norm_seed=5),
            "other": unet(3, (8, 16), dims=3, classes=4),
        }
        for name, model in models.items():
            onnx.save(model, folder / f"{name}.onnx")
            digest = register(store, open_network(folder / f"{name}.onnx")).network
            store.names.set(network_name(name), digest)
        compile_pipelines(store, [with_network(folder / "base.onnx", "one")], costing=without_measuring)
    return folder / "store"


def listed(store: Path) -> Any:
    return answer(lightbox(store, "network", "list", "--json"))


def test_a_pipeline_that_was_not_compiled_adds_nothing_to_the_store(networks: Path, tmp_path: Path) -> None:
    before = listed(networks), answer(lightbox(networks, "store", "stats", "--json"))["objects"]
    other = pipeline_over(tmp_path, "two", 6)
    rows = answer(lightbox(networks, "diff", "one", other, "--json"), code=1)
    tensors = [row for row in rows if row["key"].startswith("steps.net.graph.t")]
    assert {row["read_by"] for row in tensors} == {"Mul", "Add"}
    assert all(0 < row["differing"] <= row["numbers"] for row in tensors)
    after = listed(networks), answer(lightbox(networks, "store", "stats", "--json"))["objects"]
    assert after == before


def test_two_files_are_compared_in_an_empty_store_and_leave_it_empty(tmp_path: Path) -> None:
    files = [pipeline_over(tmp_path, name, seed) for name, seed in (("one", None), ("two", 5))]
    rows = answer(lightbox(tmp_path / "store", "diff", *files, "--json"), code=1)
    assert any(row["key"].startswith("steps.net.graph.t") for row in rows)
    assert answer(lightbox(tmp_path / "store", "network", "list", "--json")) == []


def test_two_networks_are_compared_by_name_and_by_digest(networks: Path) -> None:
    digests = {network["names"][0]: network["network"] for network in listed(networks)}
    rows = answer(lightbox(networks, "diff", "base", "north", "--json"), code=1)
    assert rows[0] == {"key": "network", "before": digests["base"], "after": digests["north"]}
    assert len(rows) > 1
    assert {row["read_by"] for row in rows[1:]} == {"Mul", "Add"}
    short = digests["north"].removeprefix("sha256:")[:12]
    assert answer(lightbox(networks, "diff", digests["base"], short, "--json"), code=1) == rows
    told = lightbox(networks, "diff", "base", "north").stdout
    assert "one structure" in told
    assert "largest change: of one number, as a share of the largest magnitude in the tensor" in told


def test_networks_of_two_structures_differ_in_these(networks: Path) -> None:
    told = lightbox(networks, "diff", "base", "other")
    assert told.exit_code == 1
    assert "structures differ" in told.stdout
    assert "inputs" in told.stdout


def test_a_network_is_compared_with_the_one_a_pipeline_runs(networks: Path) -> None:
    same = lightbox(networks, "diff", "one", "base")
    assert (same.exit_code, same.stdout) == (0, "no difference\n")
    by_name = answer(lightbox(networks, "diff", "base", "north", "--json"), code=1)
    assert answer(lightbox(networks, "diff", "one", "north", "--json"), code=1) == by_name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("west", "north"), "there is no bundled pipeline 'west'"),
        (("west", "north"), "nor a network of that name in the store"),
        (("ct-bones", "north"), "'ct-bones' stands for 0 networks (none), and one is compared"),
    ],
)
def test_what_cannot_be_compared_is_said(networks: Path, words: tuple[str, str], says: str) -> None:
    told = lightbox(networks, "diff", *words)
    assert told.exit_code == 2
    assert says in told.stderr
    assert told.stdout == ""

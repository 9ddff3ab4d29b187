"""Commands that tell what networks share, what the store holds and what stages cost."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner, Result

import planner.calibration
from object_store.opening import open_store
from planner.binding import CostModel
from planner.calibration import Calibrated, Calibration, Predicted
from planner.names import network_name
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from serving.cli.main import app
from tests.networks import unet

CHANNELS = (16, 32)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a base and two variants of it, without a pipeline."""
    folder = tmp_path_factory.mktemp("networks")
    with open_store(folder / "store") as store:
        for name, seed in (("base", None), ("north", 5), ("south", 6)):
            path = folder / f"{name}.onnx"
            onnx.save(unet(3, CHANNELS, norm_seed=seed), path)
            store.names.set(network_name(name), register(store, open_network(path)).network)
    return folder / "store"


def lightbox(store: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--store", str(store)])


def answer(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_family_is_told_as_text_json_and_picture(networks: Path, tmp_path: Path) -> None:
    svg = tmp_path / "family.svg"
    told = lightbox(networks, "explain", "--family", "--svg", str(svg))
    assert told.exit_code == 0, told.output
    assert "family of 3:" in told.stdout
    assert "the base" in told.stdout
    assert "lifted in 2" in told.stdout
    assert str(svg) in told.stdout
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    plain = answer(lightbox(networks, "explain", "north", "--family", "--json"))
    (family,) = plain["families"]
    assert [member["names"] for member in family["members"]] == [["base"], ["north"], ["south"]]
    assert set(family["members"][1]["adds"]) == {"lifted"}
    assert plain["opaque"] == []


def test_an_unknown_network_is_named(networks: Path) -> None:
    result = lightbox(networks, "explain", "--family", "west")
    assert result.exit_code == 2
    assert result.stderr == "lightbox: there is no network in this store that 'west' is or runs\n"


def test_the_store_says_what_each_network_adds(networks: Path) -> None:
    told = lightbox(networks, "store", "stats")
    assert told.exit_code == 0, told.output
    assert "3 networks:" in told.stdout
    stats = answer(lightbox(networks, "store", "stats", "--json"))
    assert stats["logical_bytes"] > 1.5 * stats["physical_bytes"]
    assert stats["bytes"] == sum(kind["bytes"] for kind in stats["kinds"].values())
    assert {tuple(network["names"]) for network in stats["networks"]} == {("base",), ("north",), ("south",)}


def test_an_empty_store_has_nothing_to_tell(tmp_path: Path) -> None:
    assert "no networks" in lightbox(tmp_path / "none", "explain", "--family").stdout
    assert answer(lightbox(tmp_path / "none", "store", "stats", "--json"))["objects"] == 0


def pipeline_over(folder: Path, name: str, seed: int | None) -> str:
    graph = folder / f"{name}.onnx"
    onnx.save(unet(3, CHANNELS, norm_seed=seed), graph)
    path = folder / f"{name}.yaml"
    path.write_text(
        f"""pipeline: {name}
extends: ct-lungs-net
golden: ~
steps:
  net: {{graph: {graph}, mode: slices, segments: [Left lung, Right lung]}}
""",
        encoding="utf-8",
    )
    return str(path)


def test_two_pipelines_differ_down_to_the_tensors_of_their_networks(tmp_path: Path) -> None:
    store = tmp_path / "store"
    files = [pipeline_over(tmp_path, "one", None), pipeline_over(tmp_path, "two", 5)]
    answer(lightbox(store, "compile", *files, "--no-measure", "--json"))
    rows = answer(lightbox(store, "diff", "one", "two", "--json"), code=1)
    by_key = {row["key"]: row for row in rows}
    assert "steps.net.graph" in by_key
    tensors = {key: row for key, row in by_key.items() if key.startswith("steps.net.graph.t")}
    assert tensors
    assert {row["read_by"] for row in tensors.values()} == {"Mul", "Add"}
    assert all(0 < row["differing"] <= row["numbers"] for row in tensors.values())
    told = lightbox(store, "diff", "one", "two")
    assert "one structure" in told.stdout
    plans = answer(lightbox(store, "store", "ls", "plan/", "--json"))
    by_digest = answer(lightbox(store, "diff", plans["plan/one"], plans["plan/two"], "--json"), code=1)
    assert by_digest == rows


def cost(seconds: float, *, measured: bool = True) -> CostModel:
    return CostModel(
        fixed_s=seconds,
        per_voxel_s=0.0,
        peak_fixed_bytes=50_000_000,
        peak_bytes_per_voxel=0.0,
        output_bytes_per_voxel=0.0,
        all_cores=0.5,
        measured=measured,
    )


def test_calibrating_says_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Calibration(
        binding="sha256:" + "1" * 64 + ":9",
        seconds=12.0,
        stages=(
            Calibrated(
                stage="s", name="decode", pipelines=("a",), before=cost(0.5, measured=False), after=cost(0.25)
            ),
        ),
    )
    monkeypatch.setattr(planner.calibration, "calibrate", lambda *args, **kwargs: done)
    told = lightbox(tmp_path / "store", "calibrate", "a")
    assert told.exit_code == 0, told.output
    for words in ("decode", "500 ms (guess)", "250 ms", "2.0x", "50.0 MB", "1 stages in 12.0 s"):
        assert words in told.stdout
    plain = answer(lightbox(tmp_path / "store", "calibrate", "--json"))
    assert plain["stages"][0]["after"]["fixed_s"] == 0.25


@pytest.mark.parametrize(("real", "code"), [(100_000_000, 0), (200_000_000, 1)])
def test_checking_fails_if_a_stage_needs_more_than_is_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: int, code: int
) -> None:
    found = Predicted(
        stage="s",
        name="stack",
        predicted_s=1.0,
        real_s=2.0,
        predicted_peak_bytes=100_000_000,
        real_peak_bytes=real,
    )
    monkeypatch.setattr(planner.calibration, "predictions", lambda *args, **kwargs: (found,))
    told = lightbox(tmp_path / "store", "calibrate", "--check")
    assert told.exit_code == code
    assert "0.50" in told.stdout
    assert ("stack needs more memory" in told.stdout) == bool(code)


def test_what_was_never_compiled_cannot_be_calibrated(tmp_path: Path) -> None:
    result = lightbox(tmp_path / "store", "calibrate", "nothing")
    assert result.exit_code == 2
    assert result.stderr == "lightbox: pipeline 'nothing' has not been compiled into this store\n"

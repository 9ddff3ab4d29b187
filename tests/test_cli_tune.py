"""`lightbox tune` says what its figures are measured against, and what was found when."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import planner.tuning
from planner.networks.records import Gated
from planner.networks.tuned import TriedWay
from planner.tuning import TunedNetwork, Tuning
from serving.cli.main import app

NETWORK = "sha256:" + "a" * 64 + ":9"


def tried(precision: Any, speedup: float) -> TriedWay:
    return TriedWay(
        engine="onnxruntime",
        precision=precision,
        levels={precision: 12},
        passed=True,
        refused="",
        speedup=speedup,
    )


def chosen(precision: Any, speedup: float) -> Gated:
    figures = {"speedup": speedup}
    return Gated(build=NETWORK, engine="onnxruntime", precision=precision, passed=True, figures=figures)


FOUND = TunedNetwork(
    network=NETWORK,
    family=NETWORK,
    step="net",
    tried=(tried("fp32", 0.73),),
    notes=(),
    ways=(),
    chosen=chosen("int8", 1.07),
)


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, network: TunedNetwork) -> Result:
    done = Tuning(pipeline="p", plan=NETWORK, binding=NETWORK, networks=(network,), took_s=1.0)
    monkeypatch.setattr(planner.tuning, "tune", lambda *_, **__: done)
    result = CliRunner().invoke(app, ["tune", "p", "--store", str(folder / "store")])
    assert result.exit_code == 0, result.output
    return result


def test_the_table_says_what_is_one_times_as_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = told(tmp_path, monkeypatch, FOUND).stdout
    assert "0.73x" in said
    assert "1.00x: the network by itself, as it was imported, in fp32 on onnxruntime" in said


@pytest.mark.parametrize(
    ("network", "before"),
    [
        (FOUND, True),
        (replace(FOUND, tried=(*FOUND.tried, tried("int8", 1.07))), False),
        (replace(FOUND, tried=(*FOUND.tried, tried("int8", 1.01))), True),
        (replace(FOUND, remembered=True), False),
    ],
)
def test_what_an_earlier_search_found_is_said_to_be_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: TunedNetwork, *, before: bool
) -> None:
    said = told(tmp_path, monkeypatch, network).stdout
    assert "runs in onnxruntime int8, 1.07 times as fast as plain fp32" in said
    assert ("as an earlier search found" in said) == before


def test_what_runs_in_plain_fp32_is_faster_than_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Gated(build=NETWORK, engine="onnxruntime", precision="fp32", passed=True, figures={})
    said = told(tmp_path, monkeypatch, replace(FOUND, chosen=plain)).stdout
    assert "  runs in onnxruntime fp32\n" in said


def test_help_tells_that_promoted_pipelines_change_at_once_and_how_to_go_back() -> None:
    said = " ".join(CliRunner().invoke(app, ["tune", "--help"]).stdout.replace("│", " ").split())
    assert "by promoted pipelines too" in said
    assert "--forget" in said
    assert "SECONDS" in said

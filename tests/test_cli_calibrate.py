"""`lightbox calibrate` says on what it measures, and what its columns are."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import planner.calibration
from planner.calibration import UNLIKE, Predicted
from serving.cli.main import app

SERIES = f"a generated chest CT of {UNLIKE.slices} images of {UNLIKE.rows} x {UNLIKE.columns}"


def test_checking_says_which_series_it_ran_the_stages_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Predicted(
        stage="s",
        name="stack",
        predicted_s=1.0,
        real_s=2.0,
        predicted_peak_bytes=100_000_000,
        real_peak_bytes=100_000_000,
    )
    monkeypatch.setattr(planner.calibration, "predictions", lambda *_, **__: (found,))
    told = CliRunner().invoke(app, ["calibrate", "--check", "--store", str(tmp_path / "store")])
    assert told.exit_code == 0, told.output
    assert f"on {SERIES}, which no cost was measured on" in told.stdout
    assert "ratio: predicted by real" in told.stdout


def test_help_tells_how_large_the_other_series_is() -> None:
    printed = CliRunner().invoke(app, ["calibrate", "--help"]).stdout
    said = re.sub(r"[│\s]+", " ", printed)
    assert SERIES in said

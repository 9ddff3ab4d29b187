"""A pipeline may run a network that never ends or wants all memory: every command comes back, and says so."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import planner.cost
from object_store.opening import open_store
from planner import golden_apart
from planner.binding import Binding
from planner.errors import NotChecked
from planner.golden_runs import golden_runs
from planner.live import compiled_plan, current_binding
from planner.machine import machine_facts
from planner.names import promoted_name
from planner.networks.apart_child import Bounds
from serving.cli.main import app
from tests.runaway_networks import OPAQUE, enormous_when_large

NARROW = Bounds(seconds=4.0, bytes=2 << 30)
"""What all else in the pipeline keeps within easily."""
TOO_SLOW, TOO_LARGE = "it did not come to an end in 4 s", "it needs more than 2.0 GiB of memory"
WHY = {"an endless loop": TOO_SLOW, "an enormous branch": TOO_LARGE, "an enormous convolution": TOO_LARGE}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the commands, in less time: two phantoms, and narrow bounds."""
    costs = planner.cost.measured_costs
    quick = replace(planner.cost.QUICK, bounds=NARROW)
    fewer = partial(costs, phantoms=planner.cost.PHANTOMS[:2], thoroughness=quick)
    monkeypatch.setattr(planner.cost, "measured_costs", fewer)
    monkeypatch.setattr(golden_apart, "CASE_BOUNDS", NARROW)


def lightbox(store: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--store", str(store)])


def pipeline(folder: Path, network: Path) -> str:
    """ct-lungs-net with another network, and the golden case of that."""
    path = folder / "mine.yaml"
    path.write_text(
        f"extends: ct-lungs-net\npipeline: mine\nsteps: {{net: {{graph: {network}, input: x}}}}\n",
        encoding="utf-8",
    )
    return str(path)


@pytest.mark.parametrize("name", OPAQUE)
def test_compiling_succeeds_and_says_which_step_was_not_measured_and_why(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    compiled = lightbox(store, "compile", pipeline(tmp_path, OPAQUE[name](tmp_path)))
    assert compiled.exit_code == 0, compiled.output
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == (
        f"mine: step net was stopped while its cost was measured on a phantom: {WHY[name]}; "
        "the cost stays a guess until `lightbox calibrate` can tell"
    )
    with open_store(store) as opened:
        current = current_binding(opened)
        assert current is not None
        measured = {stage.name: stage.cost.measured for stage in current[1].stages}
    assert [word for word, known in measured.items() if not known and "network" in word]
    assert [word for word, known in measured.items() if known]
    caplog.clear()
    again = lightbox(store, "compile", str(tmp_path / "mine.yaml"))  # it is remembered, and not tried again
    assert (again.exit_code, caplog.records) == (0, [])


@pytest.mark.parametrize("name", OPAQUE)
def test_checking_and_promoting_refuse_it_by_pipeline_case_step_and_bound(name: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    compiled = lightbox(store, "compile", "--no-measure", pipeline(tmp_path, OPAQUE[name](tmp_path)))
    assert compiled.exit_code == 0, compiled.output
    said = (
        "lightbox: pipeline 'mine' did not pass its golden cases: "
        f"phantom seed 7: step net was stopped: {WHY[name]}\n"
    )
    checked = lightbox(store, "check", "mine")
    assert (checked.exit_code, checked.stdout, checked.stderr) == (1, "", said)
    promoted = lightbox(store, "promote", "mine")
    assert (promoted.exit_code, promoted.stdout, promoted.stderr) == (1, "", said)
    with open_store(store) as opened:
        assert opened.names.get(promoted_name("local", "mine")) is None


@pytest.mark.parametrize(
    ("name", "words", "why"),
    [
        ("an endless loop", ("--deadline", "2"), "it did not come to an end in 2 s"),
        ("an enormous branch", ("--memory", "1.5"), "it needs more than 1.5 GiB of memory"),
    ],
)
def test_the_bounds_of_a_check_can_be_chosen(
    name: str, words: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    lightbox(store, "compile", "--no-measure", pipeline(tmp_path, OPAQUE[name](tmp_path)))
    checked = lightbox(store, "check", "mine", *words)
    assert checked.exit_code == 1
    assert checked.stderr.endswith(f" was stopped: {why}\n")


def test_a_network_that_is_enormous_on_large_pictures_only_is_opened_and_tuning_stops_at_its_golden_case(
    tmp_path: Path,
) -> None:
    store, network = tmp_path / "store", enormous_when_large(tmp_path)
    added = lightbox(store, "network", "add", str(network))
    assert added.exit_code == 0, added.output
    compiled = lightbox(store, "compile", "--no-measure", pipeline(tmp_path, network))
    assert compiled.exit_code == 0, compiled.output
    for command in ("check", "promote", "tune"):
        done = lightbox(store, command, "mine")
        assert done.exit_code == 1, done.output
        assert f"phantom seed 7: step net was stopped: {TOO_LARGE}" in done.stderr


def test_masks_computed_apart_are_those_computed_here_and_keep_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    lightbox(store, "compile", "--no-measure", "ct-lungs-net")
    with open_store(store) as opened:
        _, plan = compiled_plan(opened, "ct-lungs-net")
        plain = Binding(machine=machine_facts(), plans={}, stages=())
        with golden_runs(opened, plan) as runs:
            for run in runs:
                masks = run.masks_apart(store, plain)
                assert masks.keys() == run.reference.keys() == {"lungs"}
                assert np.array_equal(masks["lungs"].labels, run.reference["lungs"].labels)
            monkeypatch.setattr(golden_apart, "CASE_BOUNDS", Bounds(seconds=0.0, bytes=2 << 30))
            with pytest.raises(NotChecked, match=r"'ct-lungs-net' did not pass .* did not come to an end"):
                runs[0].masks_apart(store, plain)

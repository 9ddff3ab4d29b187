"""What golden cases fed a network: some to calibrate it with, others held out, or one in two halves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.errors import KernelError
from models.golden import ExpectedOutput, ExpectedValue, GoldenCase
from models.operators.network import Network
from models.phantom import PhantomSpec, phantom_series
from models.pipeline import Pipeline
from object_store.opening import Store
from planner.bind import without_measuring
from planner.compile import compile_pipelines
from planner.errors import NotTunable
from planner.golden_feeds import GoldenCases, NothingHeldOut, fed_cases
from planner.names import plan_name
from planner.networks.structure import Structure
from planner.tuning import tune
from tests.networks_in_pipelines import network_in
from tests.precision_cases import dilated_network, small_unet
from tests.tuning_cases import NET, SITE, compiled, pipeline, says_is_faster, side_by_side

NETWORK = "sha256:" + 64 * "0" + ":1"


@dataclass(frozen=True)
class Fed:
    """What is asked of a golden run here."""

    title: str
    fed: dict[str, Sequence[dict[str, Any]]]
    held_out: bool = False


def image(*sides: int, count: int = 1) -> dict[str, Any]:
    return {"x0": np.arange(count * np.prod(sides), dtype=np.float32).reshape(count, 1, *sides)}


def run(title: str, *feeds: dict[str, Any], held_out: bool = False) -> Fed:
    return Fed(title, {NETWORK: feeds} if feeds else {}, held_out)


def cases(runs: Any, structure: Structure | None = None) -> GoldenCases:
    return fed_cases(runs, NETWORK, structure or small_unet().structure)


def names(found: GoldenCases) -> tuple[list[str], list[str]]:
    return [case.name for case in found.calibration], [case.name for case in found.held_out]


def test_runs_that_are_held_out_are_judged_by_and_the_others_calibrated_with() -> None:
    found = cases([run("a", image(8, 8)), run("b", image(8, 8)), run("c", image(8, 8), held_out=True)])
    assert names(found) == (["a", "b"], ["c"])
    assert found.note == ""


def test_an_only_run_is_cut_in_two_and_it_is_said() -> None:
    found = cases([run("a", image(8, 8), image(8, 8))])
    assert names(found) == (["a, every second tile"], ["a, the tiles between"])
    said = "calibrated on every second tile of it and judged on the tiles between"
    assert found.note == f"there is one golden case only: {said}"
    whole = cases([run("a", image(64, 32))])
    assert names(whole) == (["a, one half"], ["a, the other half"])
    assert [feed["x0"].shape for case in whole.held_out for feed in case.feeds] == [(1, 1, 32, 32)]


@pytest.mark.parametrize("held_out", [True, False])
def test_a_run_that_did_not_feed_the_network_counts_for_nothing(held_out: bool) -> None:
    feeds = image(8, 8), image(8, 8)
    found = cases([run("a", *feeds, held_out=held_out), run("b", held_out=not held_out)])
    assert names(found) == (["a, every second tile"], ["a, the tiles between"])


@pytest.mark.parametrize("runs", [[], [run("a")], [Fed("a", {NETWORK: []}), run("b", held_out=True)]])
def test_a_network_that_no_run_fed_has_nothing_to_be_judged_by(runs: Any) -> None:
    with pytest.raises(NothingHeldOut, match="no golden case feeds it anything"):
        cases(runs)


def test_an_only_feed_of_a_fixed_size_leaves_nothing_to_judge_by() -> None:
    structure = dilated_network().structure
    (port,) = structure.inputs
    fixed = msgspec.structs.replace(port, shape=(1, 1, 8, 8, 8))
    with pytest.raises(NothingHeldOut, match="cannot be cut in two: with another golden case"):
        cases([run("a", image(8, 8, 8))], msgspec.structs.replace(structure, inputs=(fixed,)))


# -- in tuning ---------------------------------------------------------------------------------------------


def by_one_series(folder: Path, **changes: Any) -> Pipeline:
    """The bundled network's pipeline, judged by one stored series of ten slices."""
    spec = PhantomSpec(seed=7, slices=10, rows=64, columns=64, spacing_mm=(28.0, 5.6, 5.6))
    phantom_series(spec, folder)
    value = ExpectedValue(value=1000.0, tolerance=1e6)
    expected = ExpectedOutput(output="lungs", measurements=(("Left lung volume", value),))
    read = pipeline(NET)
    steps = tuple(
        replace(step, operator=replace(step.operator, **changes))
        if isinstance(step.operator, Network)
        else step
        for step in read.steps
    )
    return replace(read, steps=steps, golden=(GoldenCase(input=str(folder), expect=(expected,)),))


def test_a_series_that_is_fed_at_once_is_calibrated_with_and_judged_by_and_the_user_is_told(
    store: Store, tmp_path: Path
) -> None:
    compile_pipelines(store, [by_one_series(tmp_path / "series", batch=64)], costing=without_measuring)
    heard: list[str] = []
    (network,) = tune(store, NET, budget_s=1.0, costing=without_measuring, progress=heard.append).networks
    assert network.tried[0].passed
    said = (
        "there is one golden case only: calibrated on every second tile of it and judged on the tiles between"
    )
    assert said in network.notes
    assert f"net: {said}" in heard
    (again,) = tune(store, NET, budget_s=1.0, costing=without_measuring).networks
    assert (again.remembered, again.notes) == (True, network.notes)


class Nothing:
    """Instead of all golden runs: none that feeds these networks."""

    def __init__(self, runs: Any, *networks: str) -> None:
        self._runs, self._networks = runs, networks

    def __enter__(self) -> list[Any]:
        return [
            replace(run, fed={n: fed for n, fed in run.fed.items() if n not in self._networks})
            for run in self._runs.__enter__()
        ]

    def __exit__(self, *error: Any) -> None:
        self._runs.__exit__(*error)


def starve(monkeypatch: pytest.MonkeyPatch, *networks: str) -> None:
    """No golden case feeds these networks."""
    from planner.golden_runs import golden_runs

    monkeypatch.setattr("planner.tuning.golden_runs", lambda *given: Nothing(golden_runs(*given), *networks))


def test_a_pipeline_whose_golden_cases_feed_its_network_nothing_cannot_be_tuned(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (net,) = compiled(store, NET)
    starve(monkeypatch, network_in(net.plan))
    with pytest.raises(NotTunable, match="'ct-lungs-net' cannot be tuned: step net: no golden case feeds it"):
        tune(store, NET, costing=without_measuring)


def test_of_several_networks_those_that_a_golden_case_feeds_are_tuned(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, site = compiled(store, NET, SITE)
    digest, _ = side_by_side(store, net, site)
    store.names.set(plan_name(NET), digest)
    says_is_faster(monkeypatch, "bf16")
    starve(monkeypatch, network_in(site.plan))
    networks = {one.network: one for one in tune(store, NET, costing=without_measuring).networks}
    hindered, tuned = networks[network_in(site.plan)], networks[network_in(net.plan)]
    assert (hindered.hindered, tuned.hindered) == (True, False)
    assert hindered.notes == ("no golden case feeds it anything",)
    assert tuned.chosen is not None
    assert tuned.chosen.precision == "bf16"
    assert hindered.chosen is not None
    assert hindered.chosen.precision == "fp32"


def test_a_pipeline_whose_network_takes_no_half_of_its_only_case_cannot_be_tuned(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_pipelines(store, [by_one_series(tmp_path / "series", batch=64)], costing=without_measuring)

    def plan_precision(*_: Any, **__: Any) -> None:
        raise KernelError("sides 5 and 4 cannot be joined")

    monkeypatch.setattr("planner.tuning.plan_precision", plan_precision)
    with pytest.raises(NotTunable, match="does not run on halves of its only golden case: sides 5 and 4"):
        tune(store, NET, costing=without_measuring)

"""Tuning looks for faster ways of running the networks of a plan, and binds those that passed."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from models.pipeline_file import pipeline_path, read_pipeline
from object_store.opening import Store
from planner.bind import without_measuring
from planner.compile import compile_pipelines
from planner.errors import NotTunable
from planner.live import current_binding
from planner.networks.building.lift import lifted_structure
from planner.networks.precision.candidates import Choice, PrecisionPlan, Tried
from planner.networks.precision.gate import worst
from planner.networks.structure import Structure
from planner.networks.tuned import tuned_family
from planner.tuning import tune
from tests.engines import needs
from tests.networks_in_pipelines import network_in, promoted
from tests.planner_cases import binding_of
from tests.tuning_cases import NET, SITE, compiled, pipeline


def test_tuning_needs_a_network_and_a_golden_case(store: Store) -> None:
    bones = read_pipeline(pipeline_path("ct-bones"))
    untold = replace(pipeline(NET), golden=())
    compile_pipelines(store, [bones, untold], costing=without_measuring)
    with pytest.raises(NotTunable, match="no network"):
        tune(store, "ct-bones")
    with pytest.raises(NotTunable, match="no golden case"):
        tune(store, NET)


def test_tuning_records_what_it_tried_and_binds_what_passed(store: Store) -> None:
    (net,) = compiled(store, NET)
    heard: list[str] = []
    tuning = tune(store, NET, budget_s=1.0, costing=without_measuring, progress=heard.append)
    (network,) = tuning.networks
    assert network.network == network_in(net.plan)
    assert network.tried
    tuned = tuned_family(store, network.family)
    assert tuned is not None
    assert tuned.ways == network.ways
    (search,) = tuned.searches
    assert search.tried == network.tried
    assert network.chosen == binding_of(store).networks[network.network].choices[0]
    assert tuning.binding == str(current_binding(store)[0])  # type: ignore[index]
    assert len(heard) >= 2


def says_is_faster(monkeypatch: pytest.MonkeyPatch, *precisions: Any) -> list[Any]:
    """In place of the search: in turn one way on OpenVINO each, said to be twice as fast. Fills as asked."""
    needs("openvino")
    asked: list[Any] = []
    told = iter(precisions)

    def plan_precision(structure: Structure, tensors: Any, **given: Any) -> PrecisionPlan:
        asked.append(given)
        precision = next(told)
        tried = Tried(
            engine="openvino",
            precision=precision,
            levels=(precision,),
            rounds_s=(1.0,),
            baseline_rounds_s=(2.0,),
        )
        passed = worst(())
        tried = msgspec.structs.replace(tried, calibration=passed, held_out=passed)
        stage = lifted_structure(structure, tensors, given["lifted"])
        choice = Choice(
            tried, stage, {"INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[precision]}
        )
        return PrecisionPlan(
            gate=given["gate"],
            threads=1,
            layers=("one",),
            tried=(tried,),
            sensitivities=(),
            choices={"all": choice},
            notes=(),
            took_s=0.0,
        )

    monkeypatch.setattr("planner.tuning.plan_precision", plan_precision)
    return asked


def test_tuning_one_member_leaves_the_others_the_ways_they_run_in(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    says_is_faster(monkeypatch, "bf16", "fp32")
    net, site = compiled(store, NET, SITE)
    tune(store, NET, costing=without_measuring)
    before = binding_of(store).networks[network_in(net.plan)].choices
    assert [choice.precision for choice in before] == ["bf16", "fp32"]
    promoted(store, SITE)
    tuning = tune(store, SITE, costing=without_measuring)
    bound = binding_of(store).networks
    assert bound[network_in(net.plan)].choices == before
    (network,) = tuning.networks
    assert {(way.engine, way.precision) for way in network.ways} == {
        ("openvino", "bf16"),
        ("openvino", "fp32"),
    }
    on = {(choice.engine, choice.precision) for choice in bound[network_in(site.plan)].choices}
    assert on == {("openvino", "bf16"), ("openvino", "fp32"), ("onnxruntime", "fp32")}


def test_what_was_looked_for_before_is_not_looked_for_again_unless_asked_or_with_more_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = says_is_faster(monkeypatch, "bf16", "bf16", "bf16", "bf16")
    compiled(store, NET)
    first = tune(store, NET, budget_s=10.0, costing=without_measuring)
    heard: list[str] = []
    second = tune(store, NET, budget_s=10.0, costing=without_measuring, progress=heard.append)
    assert len(asked) == 1
    assert [network.remembered for network in (*first.networks, *second.networks)] == [False, True]
    assert second.networks[0].tried == first.networks[0].tried
    assert second.networks[0].ways == first.networks[0].ways
    assert second.networks[0].chosen == first.networks[0].chosen
    assert not any("golden cases" in sentence for sentence in heard)
    tune(store, NET, budget_s=20.0, costing=without_measuring)
    tune(store, NET, budget_s=20.0, again=True, costing=without_measuring)
    assert len(asked) == 3
    other = pipeline(NET, seed=8)
    compile_pipelines(store, [other], costing=without_measuring)
    tune(store, NET, budget_s=10.0, costing=without_measuring)
    assert len(asked) == 4

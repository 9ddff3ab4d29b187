"""Tuning looks for faster ways of running the networks of a plan, and binds those that passed."""

from dataclasses import replace

import pytest

from models.pipeline_file import pipeline_path, read_pipeline
from object_store.opening import Store
from planner.bind import without_measuring
from planner.compile import compile_pipelines
from planner.errors import NotTunable
from planner.live import current_binding
from planner.networks.tuned import tuned_family
from planner.tuning import tune
from tests.networks_in_pipelines import network_in, promoted
from tests.planner_cases import binding_of
from tests.tuning_cases import NET, SITE, compiled, pipeline, says_is_faster


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


def test_segments_that_no_golden_case_shows_are_named_to_the_user(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    says_is_faster(monkeypatch, "bf16")
    monkeypatch.setattr("planner.networks.gating.unseen_segments", lambda runs: ("lungs: Right lung",))
    compiled(store, NET)
    (network,) = tune(store, NET, costing=without_measuring).networks
    assert network.chosen is not None
    assert network.chosen.precision == "bf16"
    assert network.notes[-1] == "not judged, as no golden case shows it: lungs: Right lung"

"""A way of running networks is used where plans that are served have judged it, each with all it runs."""

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import bind, without_measuring
from planner.compile import Compiled, compile_pipelines
from planner.names import plan_name, promoted_name
from planner.networks.bind import bound_networks, networks_in
from planner.networks.gating import gate_networks
from planner.networks.joint import networks_of
from planner.networks.judged import judged_together
from planner.networks.precision.gate import Gate, Verdict, worst
from planner.plan import Plan
from planner.promote import rollback
from planner.reports.explain import explain
from tests.networks_in_pipelines import network_in, promoted
from tests.planner_cases import binding_of
from tests.tuning_cases import NET, SITE, compiled, found_bf16, pipeline

COPY = "copy"


def compiled_copy(store: Store) -> Compiled:
    """Another pipeline with the very same network."""
    (copy,) = compile_pipelines(store, [replace(pipeline(NET), name=COPY)], costing=without_measuring)
    return copy


def precisions(store: Store) -> dict[str, str]:
    return {network: bound.choices[0].precision for network, bound in binding_of(store).networks.items()}


def judging(
    monkeypatch: pytest.MonkeyPatch, passes: Callable[[Collection[str]], bool], dice: float = 0.999
) -> list[tuple[str, ...]]:
    """What is tried from now on: the networks that ran in another way, each time."""
    tried: list[tuple[str, ...]] = []

    def plan_verdict(store: Store, ways: Any, runs: Any, gate: Gate) -> Verdict:
        tried.append(tuple(ways))
        passed = passes(tuple(ways))
        failures = () if passed else ("segment 1 has Dice 0.9",)
        return msgspec.structs.replace(worst(()), passed=passed, mean_dice=dice, failures=failures)

    monkeypatch.setattr("planner.networks.gating.plan_verdict", plan_verdict)
    return tried


def judge(store: Store, digest: Digest, plan: Plan) -> None:
    gate_networks(store, (digest, plan), tuple(networks_in({str(digest): plan})), list)


def rebound(store: Store) -> dict[str, str]:
    bind(store, costing=without_measuring)
    return precisions(store)


def test_compiling_a_pipeline_slows_down_none_that_is_served(store: Store) -> None:
    (net,) = compiled(store, NET)
    found_bf16(store)
    promoted(store, NET)
    compiled_copy(store)
    assert precisions(store) == {network_in(net.plan): "bf16"}
    promoted(store, COPY)
    assert precisions(store) == {network_in(net.plan): "bf16"}


def test_a_plan_that_was_judged_before_it_was_served_counts_once_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its promotion finds nothing new to judge, and the binding knows it; still it is made anew."""
    (net,) = compiled(store, NET)
    found_bf16(store)
    tried = judging(monkeypatch, lambda ways: True)
    promoted(store, NET)
    copy = compiled_copy(store)
    judging(monkeypatch, lambda ways: False)
    judge(store, copy.digest, copy.plan)
    assert rebound(store) == {network_in(net.plan): "bf16"}
    promoted(store, COPY)
    (bound,) = binding_of(store).networks.values()
    assert [choice.precision for choice in bound.choices] == ["fp32"]
    assert [way.precision for way in bound.refused] == ["bf16"]
    assert len(tried) == 1


def test_a_plan_that_is_rolled_back_to_counts_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = compiled(store, NET)
    found_bf16(store)
    judging(monkeypatch, lambda ways: False)
    promoted(store, NET)
    assert set(precisions(store).values()) == {"fp32"}
    renamed = replace(pipeline(NET), title="the next version")
    (after,) = compile_pipelines(store, [renamed], costing=without_measuring)
    judging(monkeypatch, lambda ways: True)
    promoted(store, NET)
    store.names.set(plan_name("kept"), before.digest)  # so that it is bound, but nobody is served by it
    assert rebound(store) == {network_in(after.plan): "bf16"}
    rollback(store, "local", NET, binder=lambda opened, also: bind(opened, also, costing=without_measuring))
    assert precisions(store) == {network_in(before.plan): "fp32"}


def test_where_nobody_is_served_all_plans_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (net,) = compiled(store, NET)
    found_bf16(store)
    judging(monkeypatch, lambda ways: True)
    judge(store, net.digest, net.plan)
    assert rebound(store) == {network_in(net.plan): "bf16"}
    copy = compiled_copy(store)
    assert rebound(store) == {network_in(net.plan): "fp32"}
    (bound,) = binding_of(store).networks.values()
    assert bound.unjudged == (str(copy.digest),)


def test_it_is_said_which_plan_has_not_judged_a_way(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (net,) = compiled(store, NET)
    copy = compiled_copy(store)
    promoted(store, COPY)  # before anything was found
    found_bf16(store)
    judging(monkeypatch, lambda ways: True)
    with caplog.at_level(logging.WARNING, "planner.bind"):
        promoted(store, NET)
    assert f"{copy.digest} of {COPY}" in caplog.text
    assert set(precisions(store).values()) == {"fp32"}
    for name in (NET, COPY):
        (step,) = explain(store, [name])[0].unjudged
        assert (step.graph, step.plans) == (network_in(net.plan), ((str(copy.digest), COPY),))
    caplog.clear()
    with caplog.at_level(logging.WARNING, "planner.bind"):
        promoted(store, COPY)
    assert caplog.text == ""
    assert set(precisions(store).values()) == {"bf16"}
    assert [explained.unjudged for explained in explain(store, [NET, COPY])] == [(), ()]


def with_two_networks(store: Store) -> tuple[Digest, Plan, Compiled]:
    """A plan that is served with the nodes of NET and SITE, and SITE's, which is served as well."""
    net, site = compiled(store, NET, SITE)
    store.names.delete(plan_name(NET))
    known = {node.id for node in net.plan.nodes}
    more = tuple(node for node in site.plan.nodes if node.id not in known)
    plan = msgspec.structs.replace(net.plan, nodes=(*net.plan.nodes, *more))
    digest = store.objects.put(plan.to_bytes())
    store.names.set(promoted_name("local", "both"), digest)
    store.names.set(promoted_name("local", SITE), site.digest)
    return digest, plan, site


def test_two_networks_of_a_plan_that_were_not_judged_together_do_not_both_run_faster(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They pass alone and fail together, but while another plan refuses one there is no pair to judge."""
    digest, plan, site = with_two_networks(store)
    found_bf16(store)
    judging(monkeypatch, lambda ways: False)
    judge(store, site.digest, site.plan)
    tried = judging(monkeypatch, lambda ways: len(ways) == 1)
    judge(store, digest, plan)
    assert [len(ways) for ways in tried] == [1, 1]
    assert rebound(store)[network_in(site.plan)] == "fp32"
    for name in (plan_name(SITE), promoted_name("local", SITE)):
        store.names.delete(name)
    assert sorted(rebound(store).values()) == ["bf16", "fp32"]
    (waiting,) = (bound for bound in binding_of(store).networks.values() if len(bound.choices) == 1)
    assert waiting.unjudged == (str(digest),)
    judge(store, digest, plan)
    assert [len(ways) for ways in tried] == [1, 1, 2]
    assert sorted(rebound(store).values()) == ["bf16", "fp32"]
    assert [way.precision for bound in binding_of(store).networks.values() for way in bound.refused] == [
        "bf16"
    ]
    assert not any(bound.unjudged for bound in binding_of(store).networks.values())


def with_two_that_pass(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[Digest, Plan]:
    """A plan of two networks which everything passes, and so does the plan of one of them."""
    digest, plan, site = with_two_networks(store)
    found_bf16(store)
    judging(monkeypatch, lambda ways: True)
    judge(store, site.digest, site.plan)
    judge(store, digest, plan)
    return digest, plan


def test_two_networks_of_a_plan_that_passed_together_both_run_faster(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_two_that_pass(store, monkeypatch)
    assert set(rebound(store).values()) == {"bf16"}
    assert not any(bound.unjudged for bound in binding_of(store).networks.values())


def test_of_networks_that_were_not_judged_together_the_one_that_saves_most_keeps_its_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, plan = with_two_that_pass(store, monkeypatch)
    users = {graph: (str(digest),) for node in plan.nodes for graph in networks_of(node)}
    bound = bound_networks(store, users)
    for most in bound:
        saving = {network: _saving(one, 5.0 if network == most else 1.0) for network, one in bound.items()}
        kept = judged_together(saving, users, {})
        assert {network for network, one in kept.items() if len(one.choices) > 1} == {most}


def _saving(bound: Any, seconds: float) -> Any:
    first, *others = bound.choices
    figures = {**first.figures, "seconds": 1.0, "baseline_seconds": 1.0 + seconds}
    return msgspec.structs.replace(
        bound, choices=(msgspec.structs.replace(first, figures=figures), *others), unjudged=()
    )

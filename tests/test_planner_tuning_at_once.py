"""Several who tune and promote at the same time: none loses what another has found meanwhile."""

from typing import Any

import msgspec
import pytest

from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import without_measuring
from planner.networks.building.build import build_family
from planner.networks.gating import gate_networks
from planner.networks.precision.gate import Gate, Verdict, worst
from planner.networks.tuned import (
    GateResult,
    Gates,
    Search,
    Tuned,
    Way,
    add_results,
    add_search,
    record_tuned,
    recorded_gates,
    restore_search,
    tuned_family,
)
from planner.tuning import tune
from tests.networks_in_pipelines import network_in
from tests.planner_cases import binding_of
from tests.tuning_cases import NET, SITE, compiled, only_family, says_is_faster, side_by_side, way

FAMILY = str(Digest.of(b"a family"))
OURS, THEIRS, OLD = (way(Digest.of(name)) for name in (b"ours", b"theirs", b"old"))


def search(asked: str, *ways: Way) -> Search:
    return Search(asked=asked, budget_s=1.0, ways=tuple(way.build for way in ways), tried=())


def builds(tuned: Tuned | None) -> set[str]:
    assert tuned is not None
    return {way.build for way in tuned.ways}


def test_what_another_search_has_found_since_ours_began_is_kept(store: Store) -> None:
    """Though nothing runs on it yet; what was there before and nothing runs on is let go."""
    before = Tuned(family=FAMILY, ways=(OLD,))
    record_tuned(store, before.with_search(search("theirs", THEIRS), [THEIRS], None))
    add_search(store, before, search("ours", OURS), [OURS], frozenset)
    found = tuned_family(store, FAMILY)
    assert builds(found) == {OURS.build, THEIRS.build}
    assert found is not None
    assert [search.asked for search in found.searches] == ["theirs", "ours"]


def test_what_another_search_let_go_is_recorded_again_before_it_is_bound(store: Store) -> None:
    ours = search("ours", OURS)
    record_tuned(store, Tuned(family=FAMILY, ways=(THEIRS,), searches=(search("theirs", THEIRS),)))
    restore_search(store, FAMILY, ours, [OURS])
    found = tuned_family(store, FAMILY)
    assert builds(found) == {OURS.build, THEIRS.build}
    restore_search(store, FAMILY, ours, [OURS])
    assert tuned_family(store, FAMILY) == found


def test_two_who_tune_one_family_at_the_same_time_both_find_their_ways_recorded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(store, NET)
    family = only_family(store)
    theirs = way(build_family(store, family, engine="openvino"), family.lifted, "fp32", 1.5)

    def meanwhile() -> None:
        now = tuned_family(store, family.base) or Tuned(family=family.base, ways=())
        record_tuned(store, now.with_search(search("theirs", theirs), [theirs], None))

    says_is_faster(monkeypatch, "bf16", meanwhile=meanwhile)
    (network,) = tune(store, NET, costing=without_measuring).networks
    assert network.search is not None
    found = tuned_family(store, family.base)
    assert builds(found) == {theirs.build, *network.search.ways}
    assert found is not None
    assert [search.asked for search in found.searches] == ["theirs", network.search.asked]


def test_what_is_let_go_while_its_masks_are_judged_is_bound_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (net,) = compiled(store, NET)
    family = only_family(store).base
    says_is_faster(monkeypatch, "bf16")

    def hear(sentence: str) -> None:
        if "masks pass" in sentence:
            record_tuned(store, Tuned(family=family, ways=(THEIRS,)))

    (network,) = tune(store, NET, costing=without_measuring, progress=hear).networks
    assert network.chosen is not None
    assert network.chosen.precision == "bf16"
    assert binding_of(store).networks[network_in(net.plan)].choices[0] == network.chosen
    assert THEIRS.build in builds(tuned_family(store, family))


# -- gates -------------------------------------------------------------------------------------------------

FIGURES = {"least_dice": 1.0, "mean_dice": 1.0, "volume_change": 0.0, "segments": 2, "tiny": 0}


def result(of: Way, *, passed: bool = True) -> GateResult:
    return GateResult(build=of.build, passed=passed, figures=FIGURES)


def given_verdicts(monkeypatch: pytest.MonkeyPatch, meanwhile: Any) -> None:
    """Every way passes; while the first is tried another process records something."""
    heard: list[Any] = []

    def plan_verdict(store: Store, ways: Any, runs: Any, gate: Gate) -> Verdict:
        if len(ways) == len(heard) + 1:
            heard.append(ways)
            meanwhile(ways)
        return worst(())

    monkeypatch.setattr("planner.networks.gating.plan_verdict", plan_verdict)


def asked() -> dict[str, Any]:
    return dict(msgspec.to_builtins(Gate()))


def test_what_another_has_recorded_of_a_plan_meanwhile_is_kept_and_its_refusals_stand(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (net,) = compiled(store, NET)
    network, plan = network_in(net.plan), str(net.digest)
    both = Tuned(family=only_family(store).base, ways=(OURS, OLD))
    record_tuned(store, both)

    def meanwhile(ways: Any) -> None:
        more = (result(THEIRS), result(OLD, passed=False))
        add_results(store, Gates(plan=plan, network=network, gate=asked(), results=more))

    given_verdicts(monkeypatch, meanwhile)
    assert gate_networks(store, (net.digest, net.plan), [network], list)
    gates = recorded_gates(store, plan, network)
    assert gates is not None
    assert {found.build: found.passed for found in gates.results} == {
        OURS.build: True,
        THEIRS.build: True,
        OLD.build: False,
    }


def test_what_is_recorded_while_networks_are_judged_together_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, plan = side_by_side(store, *compiled(store, NET, SITE))
    networks = sorted({network for node in plan.nodes for network in opened(node)})
    record_tuned(
        store,
        Tuned(family=only_family(store).base, ways=(way(Digest.of(b"ours"), only_family(store).lifted),)),
    )

    def meanwhile(ways: Any) -> None:
        if len(ways) == 2:
            for network in ways:
                more = (result(THEIRS),)
                add_results(store, Gates(plan=str(digest), network=network, gate=asked(), results=more))

    given_verdicts(monkeypatch, meanwhile)
    assert gate_networks(store, (digest, plan), networks, list)
    for network in networks:
        gates = recorded_gates(store, str(digest), network)
        assert gates is not None
        assert gates.together
        assert {found.build for found in gates.results} == {OURS.build, THEIRS.build}


def opened(node: Any) -> set[str]:
    from planner.networks.joint import networks_of

    return set(networks_of(node))


def test_results_of_another_gate_are_dropped_with_what_passed_together(store: Store) -> None:
    plan, network = str(Digest.of(b"a plan")), str(Digest.of(b"a network"))
    lenient = asked() | {"least_dice": 0.5}
    add_results(store, Gates(plan=plan, network=network, gate=lenient, results=(result(OLD),)), together="x")
    add_results(store, Gates(plan=plan, network=network, gate=asked(), results=(result(OURS),)))
    gates = recorded_gates(store, plan, network)
    assert gates == Gates(plan=plan, network=network, gate=asked(), results=(result(OURS),))

"""Faster ways of running networks are used where every plan's masks stay what they are, and nowhere else."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import bind, without_measuring
from planner.check import check_plan, recorded_check
from planner.golden_runs import HELD_OUT_SEEDS, cases_of, golden_runs
from planner.networks.bind import bound_networks, networks_in
from planner.networks.building.build import put_build
from planner.networks.building.lift import lifted_structure
from planner.networks.gating import gate_networks
from planner.networks.keeping import NetworkReader
from planner.networks.precision.gate import Gate, Verdict, worst
from planner.networks.tuned import Tuned, Way, record_tuned, recorded_gates
from planner.plan import Node, Plan
from planner.reports.families import family_report
from planner.resources import StoreResources
from planner.tuning import labels_of
from tests.networks_in_pipelines import network_in, promoted
from tests.planner_cases import binding_of
from tests.tuning_cases import NET, SITE, compiled, found_bf16, only_family, side_by_side


def test_what_was_found_for_a_family_is_used_by_a_member_once_its_own_gate_passed(store: Store) -> None:
    net, site = compiled(store, NET, SITE)
    found = found_bf16(store)
    bind(store, costing=without_measuring)
    assert {b.choices[0].precision for b in binding_of(store).networks.values()} == {"fp32"}
    promoted(store, SITE)
    bound = binding_of(store).networks
    assert bound[network_in(site.plan)].choices[0].build == found.build
    assert bound[network_in(site.plan)].choices[-1].engine == "onnxruntime"
    assert bound[network_in(site.plan)].choices[0].figures["least_dice"] >= 0.99
    assert bound[network_in(net.plan)].choices[0].precision == "fp32"


def test_a_way_that_ruins_the_masks_is_refused_with_its_figures(store: Store, tmp_path: Path) -> None:
    (net,) = compiled(store, NET)
    family = only_family(store)

    reader = NetworkReader(store.objects, store.names)
    structure, tensors = reader.structure(family.base), dict(reader.tensors(family.base))
    last = structure.tensor_names()[-1]
    tensors[last] = tensors[last] + np.float32(5) * np.arange(tensors[last].size, dtype=np.float32).reshape(
        tensors[last].shape
    )
    bad = put_build(
        store,
        lifted_structure(structure, tensors, family.lifted),
        reader.weights(family.base),
        engine="onnxruntime",
        precision="int8",
        hints={},
    )
    ruined = Way(
        build=str(bad),
        engine="onnxruntime",
        precision="int8",
        seconds=1.0,
        baseline_seconds=3.0,
        lifted=family.lifted,
    )
    record_tuned(store, Tuned(family=family.base, ways=(ruined,)))
    promoted(store, NET)
    bound = binding_of(store).networks[network_in(net.plan)]
    (choice,) = bound.choices
    assert choice.precision == "fp32"
    (refused,) = bound.refused
    assert (refused.build, refused.passed) == (str(bad), False)
    assert refused.figures["least_dice"] < 0.9
    assert "Dice" in refused.figures["failures"][0]
    assert [gate["least_dice"] for gate in bound.gates] == [0.99]
    (report,), _ = family_report(store)
    assert {build.build: (build.passed, build.refused) for build in report.builds} == {
        str(bad): (0, 1),
        choice.build: (1, 0),
    }
    gates = recorded_gates(store, str(net.digest), network_in(net.plan))
    assert gates is not None
    (result,) = gates.results
    assert not result.passed
    assert result.figures["least_dice"] < 0.9
    assert "Dice" in result.figures["failures"][0]


def test_a_way_is_not_tried_twice_on_the_same_plan(store: Store) -> None:
    (net,) = compiled(store, NET)
    found_bf16(store)
    asked: list[str] = []

    def runs() -> Any:
        asked.append("runs")
        return held

    with golden_runs(store, net.plan) as held:
        assert gate_networks(store, (net.digest, net.plan), [network_in(net.plan)], runs)
        assert not gate_networks(store, (net.digest, net.plan), [network_in(net.plan)], runs)
    assert asked == ["runs"]


def with_two_networks(store: Store) -> tuple[Digest, Plan]:
    """The only live plan: masks by NET and by SITE."""
    return side_by_side(store, *compiled(store, NET, SITE))


@pytest.mark.parametrize("both_pass", [True, False])
def test_the_networks_of_a_plan_are_judged_together_as_they_will_be_bound(
    store: Store, monkeypatch: pytest.MonkeyPatch, both_pass: bool
) -> None:
    """Each passes by itself; where both do not, the one that did worse stays in fp32."""
    digest, plan = with_two_networks(store)
    found = found_bf16(store)
    networks = tuple(networks_in({str(digest): plan}))
    weak = networks[1]
    tried: list[tuple[str, ...]] = []

    def plan_verdict(store: Store, ways: Any, runs: Any, gate: Gate) -> Verdict:
        tried.append(tuple(ways))
        passed = len(ways) == 1 or both_pass
        dice = 0.996 if weak in ways else 0.999
        failures = () if passed else ("segment 1 has Dice 0.9",)
        return msgspec.structs.replace(worst(()), passed=passed, mean_dice=dice, failures=failures)

    monkeypatch.setattr("planner.networks.gating.plan_verdict", plan_verdict)
    judged: list[tuple[str, bool]] = []

    def hear(network: str, way: Way, verdict: Verdict) -> None:
        judged.append((network, verdict.passed))

    assert gate_networks(store, (digest, plan), networks, list, hear)
    assert tried == [(networks[0],), (networks[1],), networks]
    assert not gate_networks(store, (digest, plan), networks, list, hear)
    assert len(tried) == 3
    bound = bound_networks(store, networks_in({str(digest): plan}))
    runs_on = {network: bound[network].choices[0].precision for network in networks}
    assert runs_on == {networks[0]: "bf16", weak: "bf16" if both_pass else "fp32"}
    assert judged[2:] == ([] if both_pass else [(weak, False)])
    if not both_pass:
        (refused,) = bound[weak].refused
        assert refused.build == found.build
        assert refused.figures["failures"] == ["with the pipeline's other networks: segment 1 has Dice 0.9"]


def test_two_networks_in_bf16_pass_together_by_the_masks(store: Store) -> None:
    digest, plan = with_two_networks(store)
    found_bf16(store)
    networks = tuple(networks_in({str(digest): plan}))
    with golden_runs(store, plan) as runs:
        assert gate_networks(store, (digest, plan), networks, lambda: runs)
    together = [recorded_gates(store, str(digest), network) for network in networks]
    assert len({gates.together for gates in together if gates}) == 1
    assert all(gates and gates.together for gates in together)


def test_a_member_that_differs_where_the_builds_take_nothing_in_runs_in_fp32(store: Store) -> None:
    (net,) = compiled(store, NET)
    found_bf16(store)  # before the site differs in anything: nothing is lifted
    promoted(store, NET)
    assert binding_of(store).networks[network_in(net.plan)].choices[0].precision == "bf16"
    (site,) = compiled(store, SITE)
    promoted(store, SITE)
    bound = binding_of(store).networks
    assert [choice.precision for choice in bound[network_in(site.plan)].choices] == ["fp32"]
    assert bound[network_in(net.plan)].choices[0].precision == "bf16"


def test_a_check_is_run_again_when_the_networks_run_otherwise(store: Store) -> None:
    (net,) = compiled(store, NET)
    report = check_plan(store, net.digest, net.plan)
    assert recorded_check(store, net.digest, net.plan) == report
    found_bf16(store)
    promoted(store, NET)
    assert recorded_check(store, net.digest, net.plan) is None


def test_golden_runs_give_the_same_masks_from_the_networks_on_and_another_patient_is_held_out(
    store: Store,
) -> None:
    (net,) = compiled(store, NET)
    titles = [(case.title, held_out) for case, held_out in cases_of(net.plan)]
    assert titles == [("phantom seed 7", False), (f"phantom seed {7 + HELD_OUT_SEEDS}", True)]

    with golden_runs(store, net.plan) as runs:
        for run in runs:
            again = run.masks(StoreResources(store.objects.root))
            assert np.array_equal(again["lungs"].labels, run.reference["lungs"].labels)
            assert run.reference["lungs"].labels.any()
            fed = run.fed[network_in(net.plan)]
            assert {tuple(inputs) for inputs in fed} == {("x0",)}
            assert sum(len(inputs["x0"]) for inputs in fed) >= 10
    first, second = (np.concatenate([f["x0"] for f in run.fed[network_in(net.plan)]]) for run in runs)
    assert not np.array_equal(first, second)


def test_labels_are_the_largest_class_or_where_the_only_one_is() -> None:

    def node(**parameters: Any) -> Node:
        return Node(id="n", step="n", operator="network", version=1, parameters=parameters, inputs=())

    classes = np.array([[[[0.1]], [[0.7]], [[0.2]]]], np.float32)
    assert labels_of(node(segments=["a", "b"]))([classes]).tolist() == [[[1]]]
    likely = np.array([[[[0.2, 0.7]]]], np.float32)
    assert labels_of(node(segments=["a"]))([likely]).tolist() == [[[0, 1]]]
    assert labels_of(node(segments=["a"], activation="sigmoid"))([likely - 0.5]).tolist() == [[[0, 1]]]

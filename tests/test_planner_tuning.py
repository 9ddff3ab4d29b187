"""Faster ways of running networks are used where every plan's masks stay what they are, and nowhere else."""

import platform
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.engines.registry import engine_available
from models.golden import golden_case
from models.pipeline import Pipeline
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.bind import bind, without_measuring
from planner.binding import Binding
from planner.check import check_plan, recorded_check
from planner.compile import Compiled, compile_pipelines
from planner.errors import NotTunable
from planner.golden_runs import HELD_OUT_SEEDS, cases_of, golden_runs
from planner.live import current_binding
from planner.machine import gates_id, machine_facts, machine_id
from planner.names import plan_name, promoted_name
from planner.networks.bind import bound_networks, built, networks_in
from planner.networks.building.build import build_family
from planner.networks.building.lift import lifted_structure
from planner.networks.families.known import forget_networks
from planner.networks.families.members import families
from planner.networks.gating import gate_networks
from planner.networks.joint import networks_of
from planner.networks.precision.candidates import Choice, PrecisionPlan, Tried
from planner.networks.precision.gate import Gate, Verdict, worst
from planner.networks.records import Family
from planner.networks.structure import Structure
from planner.networks.tuned import Search, Tuned, Way, record_tuned, recorded_gates, tuned_family
from planner.plan import Plan
from planner.promote import promote
from planner.reports.families import family_report
from planner.tuning import labels_of, tune
from planner.ways import made_here
from tests.conftest import absent

NET, SITE = "ct-lungs-net", "ct-lungs-net-low-dose"
PHANTOM = {"seed": 7, "slices": 10, "rows": 64, "columns": 64, "spacing_mm": [28.0, 5.6, 5.6]}
"""A coarse chest: a tenth of a second in the network."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", verify_on_read=True) as opened:
        yield opened


def pipeline(name: str, **phantom: Any) -> Pipeline:
    """A bundled pipeline with a small golden case."""
    read = read_pipeline(pipeline_path(name))
    contract = replace(read.contract, max_slice_spacing_mm=None, max_pixel_spacing_mm=None)
    case = golden_case({"phantom": {**PHANTOM, **phantom}, "expect": {"lungs": {"dice": {"Left lung": 0.1}}}})
    return replace(read, golden=(case,), contract=contract)


def compiled(store: Store, *names: str) -> tuple[Compiled, ...]:
    return compile_pipelines(store, [pipeline(name) for name in names], costing=without_measuring)


def promoted(store: Store, name: str) -> None:
    promote(store, "local", name, binder=partial(bind, costing=without_measuring))


def network_in(plan: Plan) -> str:
    (graph,) = {graph for node in plan.nodes for graph in networks_of(node)}
    return graph


def binding_of(store: Store) -> Binding:
    current = current_binding(store)
    assert current is not None
    return current[1]


def only_family(store: Store) -> Family:
    (family,) = families(store).values()
    return family


def needs_openvino() -> None:
    if not engine_available("openvino"):
        absent("needs the package openvino")


def way(build: Digest, lifted: tuple[str, ...] = (), precision: Any = "bf16", speedup: float = 2.0) -> Way:
    return Way(
        build=str(build),
        engine="openvino",
        precision=precision,
        seconds=1.0,
        baseline_seconds=speedup,
        lifted=lifted,
    )


def found_bf16(store: Store) -> Way:
    """As `tune` would find: the family in bf16."""
    needs_openvino()
    family = only_family(store)
    found = way(build_family(store, family, engine="openvino", precision="bf16"), family.lifted)
    record_tuned(store, Tuned(family=family.base, ways=(found,)))
    return found


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
    from planner.networks.building.build import put_build
    from planner.networks.building.lift import lifted_structure
    from planner.networks.keeping import NetworkReader

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
    """The only live plan: that of NET, with the nodes of SITE beside its own."""
    net, site = compiled(store, NET, SITE)
    for name in (NET, SITE):
        store.names.delete(plan_name(name))
    known = {node.id for node in net.plan.nodes}
    more = tuple(node for node in site.plan.nodes if node.id not in known)
    plan = msgspec.structs.replace(net.plan, nodes=(*net.plan.nodes, *more))
    return store.objects.put(plan.to_bytes()), plan


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
    from planner.resources import StoreResources

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
    needs_openvino()
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


def search(asked: str, *ways: str) -> Search:
    return Search(asked=asked, budget_s=1.0, ways=ways, tried=())


def test_ways_that_no_member_runs_in_go_with_the_searches_that_found_them() -> None:
    used, unused, new = (way(Digest.of(name)) for name in (b"used", b"unused", b"new"))
    tuned = Tuned(family="f", ways=(), searches=())
    tuned = tuned.with_search(search("first", used.build), [used], None)
    tuned = tuned.with_search(search("second", unused.build), [unused], None)
    assert {way.build for way in tuned.ways} == {used.build, unused.build}
    tuned = tuned.with_search(search("third", new.build), [new], {used.build})
    assert {way.build for way in tuned.ways} == {used.build, new.build}
    assert [search.asked for search in tuned.searches] == ["first", "third"]
    assert tuned.remembered("first", 1.0)
    assert not tuned.remembered("first", 2.0)


def test_an_update_of_python_does_not_forget_what_was_found_but_one_of_an_engine_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine_facts.cache_clear()
    before = (machine_id(), gates_id())
    binding = Binding(machine=dict(machine_facts()), plans={}, stages=())
    try:
        major, minor, _ = platform.python_version_tuple()
        with monkeypatch.context() as patched:
            patched.setattr(platform, "python_version_tuple", lambda: (major, minor, "99"))
            patched.setattr(platform, "python_version", lambda: f"{major}.{minor}.99")
            machine_facts.cache_clear()
            assert (machine_id(), gates_id()) == before
        with monkeypatch.context() as patched:
            patched.setattr(platform, "python_version_tuple", lambda: (major, "99", "0"))
            machine_facts.cache_clear()
            assert machine_id() != before[0]
            assert gates_id() == before[1]
            assert made_here(binding)
        with monkeypatch.context() as patched:
            patched.setattr("planner.machine._version", lambda package: "99.0")
            machine_facts.cache_clear()
            assert gates_id() != before[1]
            assert not made_here(binding)
    finally:
        machine_facts.cache_clear()


def test_labels_are_the_largest_class_or_where_the_only_one_is() -> None:
    from planner.plan import Node

    def node(**parameters: Any) -> Node:
        return Node(id="n", step="n", operator="network", version=1, parameters=parameters, inputs=())

    classes = np.array([[[[0.1]], [[0.7]], [[0.2]]]], np.float32)
    assert labels_of(node(segments=["a", "b"]))([classes]).tolist() == [[[1]]]
    likely = np.array([[[[0.2, 0.7]]]], np.float32)
    assert labels_of(node(segments=["a"]))([likely]).tolist() == [[[0, 1]]]
    assert labels_of(node(segments=["a"], activation="sigmoid"))([likely - 0.5]).tolist() == [[[0, 1]]]


def test_a_build_is_made_once_for_a_family_as_it_is(store: Store) -> None:
    compiled(store, NET)
    family = only_family(store)
    digest = store.objects.put(family.to_bytes())
    assert built(store, digest, family) == built(store, digest, family)
    assert built(store, digest, family) in store.objects


def test_what_was_found_is_forgotten_with_the_plan_and_the_family(store: Store) -> None:
    (net,) = compiled(store, NET)
    found_bf16(store)
    promoted(store, NET)
    assert recorded_gates(store, str(net.digest), network_in(net.plan)) is not None
    forget_networks(store, older_than_s=-1.0)
    assert recorded_gates(store, str(net.digest), network_in(net.plan)) is not None
    store.names.delete(plan_name(NET))
    store.names.delete(promoted_name("local", NET))
    assert forget_networks(store, older_than_s=-1.0) == (network_in(net.plan),)
    assert recorded_gates(store, str(net.digest), network_in(net.plan)) is None
    assert not any(name.startswith("precision/") for name in store.names.items())

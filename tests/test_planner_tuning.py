"""Faster ways of running networks are used where every plan's masks stay what they are, and nowhere else."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.engines.registry import engine_available
from models.golden import golden_case
from models.pipeline import Pipeline
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.binding import Binding
from planner.check import check_plan, recorded_check
from planner.compile import Compiled, bind, compile_pipelines, current_binding, without_measuring
from planner.errors import NotTunable
from planner.golden_runs import HELD_OUT_SEEDS, cases_of, golden_runs
from planner.names import plan_name, promoted_name
from planner.networks.bind import built
from planner.networks.building.build import build_family
from planner.networks.families.known import forget_networks
from planner.networks.families.members import families
from planner.networks.gating import gate_networks
from planner.networks.joint import networks_of
from planner.networks.records import Family
from planner.networks.tuned import Tuned, Way, record_tuned, recorded_gates, tuned_family
from planner.plan import Plan
from planner.promote import promote
from planner.tuning import labels_of, tune
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


def way(build: Digest, precision: Any = "bf16", speedup: float = 2.0) -> Way:
    return Way(
        build=str(build), engine="openvino", precision=precision, seconds=1.0, baseline_seconds=speedup
    )


def found_bf16(store: Store) -> Way:
    """As `tune` would find: the family in bf16."""
    needs_openvino()
    family = only_family(store)
    found = way(build_family(store, family, engine="openvino", precision="bf16"))
    record_tuned(store, Tuned(family=family.base, lifted=family.lifted, ways=(found,)))
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
    ruined = Way(build=str(bad), engine="onnxruntime", precision="int8", seconds=1.0, baseline_seconds=3.0)
    record_tuned(store, Tuned(family=family.base, lifted=family.lifted, ways=(ruined,)))
    promoted(store, NET)
    (choice,) = binding_of(store).networks[network_in(net.plan)].choices
    assert choice.precision == "fp32"
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
    assert len(tuned.tried) == len(network.tried)
    assert network.chosen == binding_of(store).networks[network.network].choices[0]
    assert tuning.binding == str(current_binding(store)[0])  # type: ignore[index]
    assert len(heard) >= 2


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

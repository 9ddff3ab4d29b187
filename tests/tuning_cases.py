"""Bundled pipelines with small golden cases, and ways of running their network as tuning would find them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from models.golden import golden_case
from models.pipeline import Pipeline
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import without_measuring
from planner.compile import Compiled, compile_pipelines
from planner.names import plan_name
from planner.networks.building.build import build_family
from planner.networks.building.lift import lifted_structure
from planner.networks.families.members import families
from planner.networks.precision.candidates import Choice, PrecisionPlan, Tried
from planner.networks.precision.gate import worst
from planner.networks.records import Family
from planner.networks.structure import Structure
from planner.networks.tuned import Tuned, Way, record_tuned
from planner.plan import Plan
from tests.engines import needs

NET, SITE = "ct-lungs-net", "ct-lungs-net-low-dose"
PHANTOM = {"seed": 7, "slices": 10, "rows": 64, "columns": 64, "spacing_mm": [28.0, 5.6, 5.6]}
"""A coarse chest: a tenth of a second in the network."""


def pipeline(name: str, **phantom: Any) -> Pipeline:
    """A bundled pipeline with a small golden case."""
    read = read_pipeline(pipeline_path(name))
    contract = replace(read.contract, max_slice_spacing_mm=None, max_pixel_spacing_mm=None)
    case = golden_case({"phantom": {**PHANTOM, **phantom}, "expect": {"lungs": {"dice": {"Left lung": 0.1}}}})
    return replace(read, golden=(case,), contract=contract)


def compiled(store: Store, *names: str) -> tuple[Compiled, ...]:
    return compile_pipelines(store, [pipeline(name) for name in names], costing=without_measuring)


def side_by_side(store: Store, one: Compiled, other: Compiled) -> tuple[Digest, Plan]:
    """The only live plan: that of one pipeline, with the nodes and outputs of the other beside its own."""
    for pipeline in (one, other):
        store.names.delete(plan_name(pipeline.plan.pipeline))
    known = {node.id for node in one.plan.nodes}
    plan = msgspec.structs.replace(
        one.plan,
        nodes=(*one.plan.nodes, *(node for node in other.plan.nodes if node.id not in known)),
        outputs=(
            *one.plan.outputs,
            *(msgspec.structs.replace(o, name=f"{o.name} beside") for o in other.plan.outputs),
        ),
    )
    return store.objects.put(plan.to_bytes()), plan


def only_family(store: Store) -> Family:
    (family,) = families(store).values()
    return family


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
    needs("openvino")
    family = only_family(store)
    found = way(build_family(store, family, engine="openvino", precision="bf16"), family.lifted)
    record_tuned(store, Tuned(family=family.base, ways=(found,)))
    return found


def says_is_faster(
    monkeypatch: pytest.MonkeyPatch, *precisions: Any, meanwhile: Callable[[], None] = lambda: None
) -> list[Any]:
    """In place of the search: in turn one way on OpenVINO each, said to be twice as fast. Fills as asked.

    meanwhile: what happens while it looks."""
    needs("openvino")
    asked: list[Any] = []
    told = iter(precisions)

    def plan_precision(structure: Structure, tensors: Any, **given: Any) -> PrecisionPlan:
        asked.append(given)
        meanwhile()
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

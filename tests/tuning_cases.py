"""Bundled pipelines with small golden cases, and ways of running their network as tuning would find them."""

from dataclasses import replace
from typing import Any

from models.golden import golden_case
from models.pipeline import Pipeline
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import without_measuring
from planner.compile import Compiled, compile_pipelines
from planner.networks.building.build import build_family
from planner.networks.families.members import families
from planner.networks.records import Family
from planner.networks.tuned import Tuned, Way, record_tuned
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

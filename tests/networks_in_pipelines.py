"""Networks in pipelines: compiled into a store, promoted, and answered from it.

with_network(path)                the bundled network's pipeline with another network in it
compiled(store, pipeline)         as `lightbox compile` leaves it, without measuring
answers(resources, graph, model)  of a stored network, to be held against expected(model)
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from models.operators.base import Resources
from models.operators.network import Network
from models.pipeline import Pipeline
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.opening import Store
from planner.bind import bind, without_measuring
from planner.compile import Compiled, compile_pipelines
from planner.networks.joint import networks_of
from planner.plan import Plan
from planner.promote import promote
from tests.networks import image, run

SITES = ("low-dose", "sharp-kernel", "smooth-kernel", "thick-slices")
ZOO_NETS = ("ct-lungs-net", *(f"ct-lungs-net-{site}" for site in SITES))


def with_network(path: Path, name: str = "net", **changes: Any) -> Pipeline:
    """The bundled network's pipeline with another network in it."""
    base = read_pipeline(pipeline_path("ct-lungs-net"))
    steps = tuple(
        replace(step, operator=replace(step.operator, graph=str(path), **changes))
        if isinstance(step.operator, Network)
        else step
        for step in base.steps
    )
    return replace(base, name=name, steps=steps)


def compiled(store: Store, *pipelines: Pipeline) -> tuple[Compiled, ...]:
    return compile_pipelines(store, pipelines, costing=without_measuring)


def promoted(store: Store, pipeline: str, gate: Any = None) -> None:
    promote(store, "local", pipeline, gate=gate, binder=partial(bind, costing=without_measuring))


def network_in(plan: Plan) -> str:
    (graph,) = {graph for node in plan.nodes for graph in networks_of(node)}
    return graph


def answers(resources: Resources, graph: str, model: onnx.ModelProto, size: int = 32) -> list[Any]:
    (feed,) = image(model, 5, size=size).values()
    return list(resources.network(graph).run({"x0": feed}))


def expected(model: onnx.ModelProto, size: int = 32) -> list[Any]:
    return list(run(model, image(model, 5, size=size)))

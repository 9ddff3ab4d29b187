"""Pipelines into plans, and all live plans of a store into one binding."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.errors import PipelineError
from models.golden import GoldenCase
from models.operators.base import Operator
from models.pipeline import Pipeline, Step, check
from object_store.digest import Digest
from object_store.opening import Store
from planner.binding import Binding, Stage, stored_binding
from planner.errors import UnknownPipeline, Unreadable
from planner.execute import OperatorFrom, operator_of
from planner.graph import graph_of
from planner.lower import Encoder, lower, registered_encoder
from planner.machine import machine_facts
from planner.names import BINDING, PLANS, TENANTS, plan_name
from planner.plan import Plan, stored_plan
from planner.rewrite import rewrite
from planner.stages import cut_stages
from planner.stored_series import store_series
from planner.turn import turn

log = logging.getLogger(__name__)

Costing = Callable[[Mapping[str, Plan], tuple[Stage, ...]], tuple[Stage, ...]]
"""Gives stages (of plans by digest) their costs."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A pipeline in the store."""

    plan: Plan
    digest: Digest
    new: bool
    """False: the pipeline stood for this very plan before."""


def compile_pipelines(
    store: Store,
    pipelines: Iterable[Pipeline],
    *,
    costing: Costing | None = None,
    encoder: Encoder = registered_encoder,
    operators: OperatorFrom = operator_of,
) -> tuple[Compiled, ...]:
    """Put the plan of each pipeline into the store, name it, and rebuild the binding over all live plans.

    The plans depend on the pipelines alone. costing: default: measured (planner.cost).
    Raises: PipelineError, RuleBroke, StoreError; nothing is named unless all pipelines compile.
    """
    plans = [make_plan(store, pipeline, encoder) for pipeline in pipelines]
    compiled = []
    with turn(store):
        for plan in plans:
            digest, name = store.objects.put(plan.to_bytes()), plan_name(plan.pipeline)
            compiled.append(Compiled(plan, digest, new=store.names.get(name) != digest))
            store.names.set(name, digest)
        bind(store, costing=costing, operators=operators)
    return tuple(compiled)


def make_plan(store: Store, pipeline: Pipeline, encoder: Encoder = registered_encoder) -> Plan:
    """The plan of a pipeline, with the files it names put into the store."""
    stored = dataclasses.replace(
        pipeline,
        steps=tuple(_stored_step(store, step) for step in pipeline.steps),
        golden=tuple(_stored_case(store, case) for case in pipeline.golden),
    )
    order = tuple(check(stored))
    return lower(rewrite(graph_of(stored, order)), stored, encoder)


def bind(
    store: Store,
    also: Iterable[Digest] = (),
    *,
    costing: Costing | None = None,
    operators: OperatorFrom = operator_of,
) -> Digest:
    """Rebuild the binding over all live plans and those in `also`, and name it; within a `turn` of the store.

    Stages keep the costs measured before. costing: default: measured (planner.cost). Plans of another
    version of Lightbox, which this one cannot read or compute, are left out: others must still be bound.
    """
    plans = live_plans(store, also)
    for name, plan in list(plans.items()):
        if why := cannot_compute(plan, operators):
            log.warning("plan %s of %s is left out of the binding: %s", name, plan.pipeline, why)
            del plans[name]
    stages = cut_stages(plans, operators)
    if costing is None:
        from planner.cost import measured_costs

        costing = measured_costs(store, operators)
    binding = Binding(
        machine=machine_facts(),
        plans={digest: plan.pipeline for digest, plan in plans.items()},
        stages=costing(plans, stages),
    )
    digest = store.objects.put(binding.to_bytes())
    store.names.set(BINDING, digest)
    return digest


def cannot_compute(plan: Plan, operators: OperatorFrom = operator_of) -> str:
    """Why this version of Lightbox cannot compute the plan; empty if it can."""
    try:
        for node in plan.nodes:
            operators(node)
    except PipelineError as error:
        return str(error)
    return ""


def without_measuring(plans: Mapping[str, Plan], stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """A Costing that keeps the default costs: for when a rough estimate will do."""
    return stages


def live_plans(store: Store, also: Iterable[Digest] = ()) -> dict[str, Plan]:
    """Plans by digest that a pipeline's or a tenant's name stands for now, and those in `also`.

    What cannot be read by this version of Lightbox is left out, and logged.
    """
    named = {*store.names.items(PLANS).values(), *store.names.items(TENANTS).values(), *also}
    plans = {}
    for digest in sorted(named):
        try:
            plans[str(digest)] = stored_plan(store, digest)
        except Unreadable as error:
            log.warning("left out of the binding: %s", error)
    return plans


def current_binding(store: Store) -> tuple[Digest, Binding] | None:
    """The binding that new jobs begin with; None if nothing was compiled yet. Raises: Unreadable."""
    digest = store.names.get(BINDING)
    return None if digest is None else (digest, stored_binding(store, digest))


def compiled_plan(store: Store, pipeline: str) -> tuple[Digest, Plan]:
    """The plan last compiled under this name. Raises: UnknownPipeline, Unreadable."""
    digest = store.names.get(plan_name(pipeline))
    if digest is None:
        raise UnknownPipeline(pipeline)
    return digest, stored_plan(store, digest)


def _stored_step(store: Store, step: Step) -> Step:
    operator: Operator = step.operator
    files = {name: getattr(operator, name) for name in operator.file_parameters}
    digests = {name: _stored_file(store, path) for name, path in files.items() if path}
    return dataclasses.replace(step, operator=dataclasses.replace(operator, **digests)) if digests else step


def _stored_case(store: Store, case: GoldenCase) -> GoldenCase:
    expect = tuple(
        dataclasses.replace(expected, label_map=_stored_file(store, expected.label_map))
        if expected.label_map is not None
        else expected
        for expected in case.expect
    )
    return dataclasses.replace(case, input=_stored_input(store, case.input), expect=expect)


def _stored_input(store: Store, folder_or_digest: str | None) -> str | None:
    if folder_or_digest is None or folder_or_digest.startswith("sha256:"):
        return folder_or_digest
    return str(store_series(store, Path(folder_or_digest)))


def _stored_file(store: Store, path_or_digest: str) -> str:
    if path_or_digest.startswith("sha256:"):
        return str(Digest.parse(path_or_digest))
    return str(store.objects.put_file(Path(path_or_digest)))

"""Pipelines into plans."""

import dataclasses
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from models.golden import GoldenCase
from models.operators.base import Operator
from models.operators.network import Network
from models.pipeline import Pipeline, Step, check
from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import bind
from planner.binding import Costing
from planner.execute import OperatorFrom, operator_of
from planner.graph import graph_of
from planner.lower import Encoder, lower, registered_encoder
from planner.names import plan_name
from planner.networks.adopt import adopted
from planner.plan import Plan
from planner.rewrite import rewrite
from planner.stored_series import store_series
from planner.turn import turn

log = logging.getLogger(__name__)

Planned = Callable[[str], None]
"""Called with a pipeline's name when its plan is made, for progress."""


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
    planned: Planned = lambda pipeline: None,
) -> tuple[Compiled, ...]:
    """Put the plan of each pipeline into the store, name it, and rebuild the binding over all live plans.

    The plans depend on the pipelines alone. costing: default: measured (planner.cost). planned: is told.
    Raises: PipelineError, RuleBroke, StoreError; no plan is named unless all pipelines compile. (Networks
    that were opened until then stay known until garbage is collected.)
    """
    plans = []
    for pipeline in pipelines:
        plans.append(make_plan(store, pipeline, encoder))
        planned(pipeline.name)
    compiled = []
    with turn(store):
        for plan in plans:
            digest, name = store.objects.put(plan.to_bytes()), plan_name(plan.pipeline)
            compiled.append(Compiled(plan, digest, new=store.names.get(name) != digest))
            store.names.set(name, digest)
        bind(store, costing=costing, operators=operators)
    return tuple(compiled)


def make_plan(store: Store, pipeline: Pipeline, encoder: Encoder = registered_encoder) -> Plan:
    """The plan of a pipeline, with the files it names put into the store and its networks opened.

    Not within a `turn` of the store. Raises: as compile_pipelines.
    """
    check(pipeline)  # before anything is read, for the errors that cost nothing to find
    stored = dataclasses.replace(
        pipeline,
        steps=tuple(_stored_step(store, step) for step in pipeline.steps),
        golden=tuple(_stored_case(store, case) for case in pipeline.golden),
    )
    order = tuple(check(stored))
    return lower(rewrite(graph_of(stored, order)), stored, encoder)


def _stored_step(store: Store, step: Step) -> Step:
    operator: Operator = step.operator
    if isinstance(operator, Network):
        return dataclasses.replace(step, operator=adopted(store, step.name, operator))
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

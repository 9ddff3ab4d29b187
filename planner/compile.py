"""Pipelines into plans, and all live plans of a store into one binding."""

import dataclasses
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from models.errors import PipelineError
from models.golden import GoldenCase
from models.operators.base import Operator
from models.operators.network import Network
from models.pipeline import Pipeline, Step, check
from object_store.digest import Digest
from object_store.local import LocalStore
from object_store.opening import Store
from planner.binding import Binding, Costing, Stage, stored_binding
from planner.errors import UnknownPipeline, Unreadable
from planner.execute import OperatorFrom, operator_of
from planner.fusing import fused_chains
from planner.graph import graph_of
from planner.lower import Encoder, lower, registered_encoder
from planner.machine import machine_facts
from planner.names import BINDING, PLANS, TENANTS, plan_name
from planner.networks.adopt import adopted
from planner.networks.bind import bound_networks, network_nodes, networks_in, runs_several, shared_parts
from planner.networks.joint import find_joint
from planner.plan import Node, Plan, read_plan, stored_plan
from planner.rewrite import rewrite
from planner.stages import cut_stages
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
    known = _each_once(operators)
    for name, plan in list(plans.items()):
        why = _hindrance(name, plan) if operators is operator_of else cannot_compute(plan, known)
        if why:
            log.warning("plan %s of %s is left out of the binding: %s", name, plan.pipeline, why)
            del plans[name]
    networks = bound_networks(store, networks_in(plans))
    joint = find_joint(_with_several_networks(plans), shared_parts(store, networks))
    stages = cut_stages(plans, known, joint, _STAGES if operators is operator_of else None)
    if costing is None:
        from planner.cost import measured_costs

        costing = measured_costs(store, operators)
    binding = Binding(
        machine=machine_facts(),
        plans={digest: plan.pipeline for digest, plan in plans.items()},
        stages=stages,
        networks=networks,
        joint=joint,
        fused=fused_chains(store, plans.values(), known, measuring=costing is not without_measuring),
    )
    binding = msgspec.structs.replace(binding, stages=costing(plans, binding))
    digest = store.objects.put(binding.to_bytes())
    store.names.set(BINDING, digest)
    return digest


_STAGES: dict[Hashable, tuple[Stage, ...]] = {}
"""Stages of the plans that this process has cut before, by the bundled operators."""

_HINDRANCES: dict[str, str] = {}
"""cannot_compute of the plans that this process has looked at, by the bundled operators."""


def _hindrance(digest: str, plan: Plan) -> str:
    if digest not in _HINDRANCES:
        _HINDRANCES[digest] = cannot_compute(plan)
    return _HINDRANCES[digest]


def _with_several_networks(plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """Plans in which networks may be computed together, and all others that have a step of these."""
    steps = {digest: network_nodes(plan) for digest, plan in plans.items()}
    several = {node.id for nodes in steps.values() for node in nodes if len(nodes) > 1 or runs_several(node)}
    return {d: plans[d] for d, nodes in steps.items() if any(node.id in several for node in nodes)}


def _each_once(operators: OperatorFrom) -> OperatorFrom:
    """The same, and a node that many plans have becomes an operator once."""
    known: dict[str, Operator] = {}

    def operator(node: Node) -> Operator:
        if node.id not in known:
            known[node.id] = operators(node)
        return known[node.id]

    return operator


def cannot_compute(plan: Plan, operators: OperatorFrom = operator_of) -> str:
    """Why this version of Lightbox cannot compute the plan; empty if it can."""
    try:
        for node in plan.nodes:
            operators(node)
    except PipelineError as error:
        return str(error)
    return ""


def without_measuring(plans: Mapping[str, Plan], binding: Binding) -> tuple[Stage, ...]:
    """A Costing that keeps the default costs: for when a rough estimate will do."""
    return binding.stages


def live_plans(store: Store, also: Iterable[Digest] = ()) -> dict[str, Plan]:
    """Plans by digest that a pipeline's or a tenant's name stands for now, and those in `also`.

    What cannot be read by this version of Lightbox is left out, and logged.
    """
    named = {*store.names.items(PLANS).values(), *store.names.items(TENANTS).values(), *also}
    plans = {}
    for digest in sorted(named):
        try:
            plans[str(digest)] = _plan(store.objects.root, digest)
        except Unreadable as error:
            log.warning("left out of the binding: %s", error)
    return plans


@lru_cache(maxsize=4096)
def _plan(store: Path, digest: Digest) -> Plan:
    """A plan never changes, so this process reads and checks it once."""
    try:
        return read_plan(LocalStore(store, verify_on_read=True).get(digest))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(str(digest), str(error)) from error


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

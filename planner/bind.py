"""All live plans of a store into one binding: how they are computed on this machine."""

import logging
from collections.abc import Hashable, Iterable, Mapping

import msgspec

from models.errors import PipelineError
from models.operators.base import Operator
from object_store.digest import Digest
from object_store.opening import Store
from planner.binding import Binding, Costing, Stage
from planner.execute import OperatorFrom, operator_of
from planner.fusing import fused_chains
from planner.live import live_plans
from planner.machine import machine_facts
from planner.names import BINDING
from planner.networks.bind import bound_networks, network_nodes, networks_in, runs_several, shared_parts
from planner.networks.joint import find_joint
from planner.plan import Node, Plan
from planner.stages import cut_stages

log = logging.getLogger(__name__)


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

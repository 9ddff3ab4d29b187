"""All live plans of a store into one binding: how they are computed on this machine."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from models.errors import PipelineError
from models.operators.base import Operator
from object_store.digest import Digest
from object_store.opening import Store
from planner.binding import Binding, Costing, Stage
from planner.execute import OperatorFrom, operator_of
from planner.fusing import fused_chains
from planner.live import live_plans, served_plans
from planner.machine import machine_facts
from planner.names import BINDING
from planner.networks.bind import (
    bound_networks,
    network_nodes,
    opened_graphs,
    runs_several,
    shared_parts,
    users_of,
)
from planner.networks.joint import find_joint
from planner.networks.judged import deciding
from planner.networks.records import BoundNetwork
from planner.plan import Node, Plan
from planner.stages import Remembered, cut_stages

log = logging.getLogger(__name__)


def bind(
    store: Store,
    also: Iterable[Digest] = (),
    *,
    costing: Costing | None = None,
    operators: OperatorFrom = operator_of,
) -> Digest:
    """Rebuild the binding over all live plans and those in `also`, and name it; within a `turn` of the store.

    How networks run is decided by the gates of the plans that tenants run and of those in `also`; where
    there is none of these, by all.

    Stages keep the costs measured before. costing: default: measured (planner.cost). Plans of another
    version of Lightbox, which this one cannot read or compute, are left out: others must still be bound.
    """
    named = tuple(also)
    plans = live_plans(store, named)
    known = _each_once(operators)
    for name, plan in list(plans.items()):
        why = _hindrance(name, plan, known) if operators is operator_of else cannot_compute(plan, known)
        if why:
            log.warning("plan %s of %s is left out of the binding: %s", name, plan.pipeline, why)
            del plans[name]
    runs = {digest: _networks(digest, plan) for digest, plan in plans.items()}
    served = served_plans(store).union(map(str, named))
    users = users_of({digest: found.graphs for digest, found in runs.items()})
    networks = bound_networks(store, deciding(users, served))
    _say_unjudged(networks, plans, served)
    joint = find_joint(_with_several(plans, runs), shared_parts(store, networks))
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


_STAGES = Remembered()
"""Of the plans that this process has cut before, by the bundled operators."""

_HINDRANCES: dict[str, str] = {}
"""cannot_compute of the plans that this process has looked at, by the bundled operators."""


def _hindrance(digest: str, plan: Plan, operators: OperatorFrom) -> str:
    if digest not in _HINDRANCES:
        _HINDRANCES[digest] = cannot_compute(plan, operators)
    return _HINDRANCES[digest]


@dataclass(frozen=True, slots=True)
class _Networks:
    """What a plan runs. steps: ids of the nodes that do; several: whether they run more than one."""

    graphs: frozenset[str]
    steps: frozenset[str]
    several: bool


_NETWORKS: dict[str, _Networks] = {}
"""Of the plans that this process has looked at, by digest."""


def _networks(digest: str, plan: Plan) -> _Networks:
    if digest not in _NETWORKS:
        nodes = network_nodes(plan)
        _NETWORKS[digest] = _Networks(
            opened_graphs(plan),
            frozenset(node.id for node in nodes),
            len(nodes) > 1 or any(map(runs_several, nodes)),
        )
    return _NETWORKS[digest]


def _say_unjudged(
    networks: Mapping[str, BoundNetwork], plans: Mapping[str, Plan], served: Collection[str]
) -> None:
    """Log which of the plans that are served keep a way from being used, as they have not judged it."""
    waiting = Counter(plan for bound in networks.values() for plan in bound.unjudged if plan in served)
    if waiting:
        first = next(iter(sorted(waiting)))
        log.warning(
            "faster ways of running networks are not used until %d plans have judged them, at `lightbox "
            "promote` or `lightbox tune`: %s of %s%s",
            len(waiting),
            first,
            plans[first].pipeline,
            " and others" if len(waiting) > 1 else "",
        )


def _with_several(plans: Mapping[str, Plan], runs: Mapping[str, _Networks]) -> dict[str, Plan]:
    """Plans in which networks may be computed together, and all others that have a step of these."""
    several = frozenset[str]().union(*(found.steps for found in runs.values() if found.several))
    return {digest: plans[digest] for digest, found in runs.items() if found.steps & several}


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

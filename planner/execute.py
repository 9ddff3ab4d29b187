"""Computing, one node after the other, in this thread: a stage in a worker, or a whole plan here."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from models.operators.base import KernelContext, Operator
from models.values import Series, Value
from planner.networks.joint import JointResources
from planner.numeric.record import Fused
from planner.plan import SOURCE, Node, Plan

OperatorFrom: TypeAlias = Callable[[Node], Operator]
"""How a node becomes an operator; tests have operators of their own."""


def operator_of(node: Node) -> Operator:
    """The operator of a node, from the registry. Raises PipelineError if this Lightbox has none such."""
    parameters = msgspec.json.encode(node.parameters, order="deterministic")
    return _registered(node.operator, node.version, parameters)


def run_stage(
    nodes: Sequence[Node],
    inputs: Mapping[str, Sequence[Value]],
    gives: Sequence[str],
    context: KernelContext,
    operators: OperatorFrom = operator_of,
) -> dict[str, Value]:
    """Compute `nodes`, which are in execution order, and return the values of `gives`.

    inputs: by node id (or SOURCE); several values for one id are parts of it (images decoded apart), handed
    to the reader one after the other. Values are dropped as soon as no later node reads them. Nodes that the
    context's resources say are computed by one call (joint networks, fused chains) are, if all of them are
    here: joint ones when the first of them comes, a chain when its last one does.
    Raises: InputRefused; whatever else a kernel raises.
    """
    values: dict[str, Sequence[Value]] = dict(inputs)
    units = _units(nodes, context)
    last_reader = {source: index for index, unit in enumerate(units) for source in unit.reads}
    wanted = frozenset(gives)
    for index, unit in enumerate(units):
        given = {source: values[source] for source in unit.reads}
        for source in unit.reads:
            if last_reader[source] == index and source not in wanted:
                del values[source]
        for node_id, value in _computed(unit, given, context, operators).items():
            if node_id in wanted or node_id in last_reader:
                values[node_id] = (value,)
        del given
    return {node_id: values[node_id][0] for node_id in gives}


@dataclass(frozen=True, slots=True)
class _Unit:
    """Nodes that one call computes: one node, those of a Joint, or those of a fused chain, in order."""

    nodes: tuple[Node, ...]
    fused: Fused | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The values it needs from elsewhere, each once."""
        inside = {node.id for node in self.nodes}
        return tuple(dict.fromkeys(s for node in self.nodes for s in node.inputs if s not in inside))


def _units(nodes: Sequence[Node], context: KernelContext) -> list[_Unit]:
    """The nodes in an order of computation, those together that the resources say belong together."""
    resources = context.resources
    if not isinstance(resources, JointResources):
        return [_Unit((node,)) for node in nodes]
    here = {node.id: node for node in nodes}
    first, last = {}, {}
    for joint in resources.joint:
        if len(joint.nodes) > 1 and here.keys() >= set(joint.nodes):
            unit = _Unit(tuple(node for node in nodes if node.id in joint.nodes))
            first.update(dict.fromkeys(joint.nodes, unit))
    for fused in resources.fused:
        if here.keys() >= set(fused.nodes) and first.keys().isdisjoint(fused.nodes):
            last.update(dict.fromkeys(fused.nodes, _Unit(tuple(here[n] for n in fused.nodes), fused)))
    units = []
    for node in nodes:
        unit = first.get(node.id) or last.get(node.id) or _Unit((node,))
        place = unit.nodes[-1] if node.id in last else unit.nodes[0]
        if node.id == place.id:
            units.append(unit)
    return units


def _computed(
    unit: _Unit, given: Mapping[str, Sequence[Value]], context: KernelContext, operators: OperatorFrom
) -> dict[str, Value]:
    """The values of a unit that others may read, by node id."""
    if unit.fused is not None:
        from planner.numeric.fused import run_fused

        one_each = {source: values[0] for source, values in given.items()}
        return {unit.nodes[-1].id: run_fused(unit.fused, unit.nodes, one_each, context, operators)}
    first = unit.nodes[0]
    arguments = [value for source in first.inputs for value in given[source]]
    if len(unit.nodes) == 1:
        return {first.id: operators(first).apply(arguments, context)}
    from models.operators.network import Network, computed_together

    networks = [operator for operator in map(operators, unit.nodes) if isinstance(operator, Network)]
    results = computed_together(networks, arguments, context)
    return {node.id: value for node, value in zip(unit.nodes, results, strict=True)}


def run_plan(
    plan: Plan,
    series: Series,
    context: KernelContext,
    gives: Sequence[str] | None = None,
    operators: OperatorFrom = operator_of,
) -> dict[str, Value]:
    """Compute a plan in this thread, or as much of it as `gives` needs.

    gives: node ids; default: masks, measurements and segmentations of all outputs.
    """
    if gives is None:
        wanted = [node for o in plan.outputs for node in (o.mask, o.measurements, o.segmentation)]
        gives = tuple(dict.fromkeys(node for node in wanted if node is not None))
    return run_stage(_needed(plan, gives), {SOURCE: (series,)}, gives, context, operators)


def _needed(plan: Plan, gives: Sequence[str]) -> tuple[Node, ...]:
    needed = set(gives)
    nodes = []
    for node in reversed(plan.nodes):
        if node.id in needed:
            needed.update(node.inputs)
            nodes.append(node)
    return tuple(reversed(nodes))


@lru_cache(maxsize=4096)
def _registered(name: str, version: int, parameters: bytes) -> Operator:
    from models.operators.registry import operator_from

    plain: dict[str, Any] = json.loads(parameters)
    return operator_from(name, version, plain)

"""Computing, one node after the other, in this thread: a stage in a worker, or a whole plan here."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from models.operators.base import KernelContext, Operator
from models.values import Series, Value
from planner.canonical import canonical_json
from planner.plan import SOURCE, Node, Plan

OperatorFrom: TypeAlias = Callable[[Node], Operator]
"""How a node becomes an operator; tests have operators of their own."""


def operator_of(node: Node) -> Operator:
    """The operator of a node, from the registry. Raises PipelineError if this Lightbox has none such."""
    return _registered(node.operator, node.version, canonical_json(node.parameters))


def run_stage(
    nodes: Sequence[Node],
    inputs: Mapping[str, Sequence[Value]],
    gives: Sequence[str],
    context: KernelContext,
    operators: OperatorFrom = operator_of,
) -> dict[str, Value]:
    """Compute `nodes`, which are in execution order, and return the values of `gives`.

    inputs: by node id (or SOURCE); several values for one id are parts of it (images decoded apart), handed
    to the reader one after the other. Values are dropped as soon as no later node reads them.
    Raises: InputRefused; whatever else a kernel raises.
    """
    values: dict[str, Sequence[Value]] = dict(inputs)
    last_reader = {source: index for index, node in enumerate(nodes) for source in node.inputs}
    wanted = frozenset(gives)
    for index, node in enumerate(nodes):
        arguments = [value for source in node.inputs for value in values[source]]
        for source in set(node.inputs):
            if last_reader[source] == index and source not in wanted:
                del values[source]
        values[node.id] = (operators(node).apply(arguments, context),)
        del arguments
        if node.id not in wanted and node.id not in last_reader:
            del values[node.id]
    return {node_id: values[node_id][0] for node_id in gives}


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

"""Cuts the nodes of all live plans into stages: what runs back to back, is scheduled and is shared as one.

Two neighbours join if they run in the same way (granularity, pool, per job or not) for the same plans, the
second is the only reader of the first, and it waits for nothing that the first does not wait for. So no cycle
can arise and branches stay free to run side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from models.operators.base import Operator
from planner.binding import CostModel, Pool, Stage
from planner.canonical import identity
from planner.plan import Node, Plan

UNMEASURED = CostModel(
    fixed_s=0.01,
    per_voxel_s=5e-8,
    peak_bytes_per_voxel=16.0,
    output_bytes_per_voxel=4.0,
    measured=False,
)
"""Stands in until a stage is measured: a guess, one pass of a filter over float32 with a few copies."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How a node runs: only nodes that run alike may share a stage."""

    granularity: str
    pool: Pool
    per_job: bool
    plans: tuple[str, ...]


@dataclass(slots=True)
class _Group:
    """Nodes that will be one stage, in execution order. `waits_for` are all nodes before it, transitively."""

    way: _Way
    nodes: list[str] = field(default_factory=list)
    waits_for: frozenset[str] = frozenset()


def cut_stages(plans: Mapping[str, Plan], operators: Callable[[Node], Operator]) -> tuple[Stage, ...]:
    """The stages of these plans (by digest), in an execution order valid for each, with unmeasured costs.

    The result depends on the plans only, not on the order in which they are given.
    """
    nodes = _merged_nodes(plans)
    wanted = {
        n for p in plans.values() for o in p.outputs for n in (o.mask, o.measurements, o.segmentation) if n
    }
    readers: dict[str, list[str]] = {node_id: [] for node_id in nodes}
    for node in nodes.values():
        for source in dict.fromkeys(node.inputs):
            if source in readers:
                readers[source].append(node.id)
    group_of: dict[str, _Group] = {}
    groups: list[_Group] = []
    for node in nodes.values():
        way = _way(node, operators(node), plans)
        before = _waits_for(node, group_of)
        group = _joinable(node, way, before, group_of, readers)
        if group is None:
            group = _Group(way, waits_for=before)
            groups.append(group)
        group.nodes.append(node.id)
        group_of[node.id] = group
    return tuple(_stage(group, nodes, readers, wanted) for group in groups)


def _merged_nodes(plans: Mapping[str, Plan]) -> dict[str, Node]:
    """Every node once, inputs before readers, in an order that does not depend on that of the plans."""
    merged: dict[str, Node] = {}
    for digest in sorted(plans, key=lambda d: (plans[d].pipeline, d)):
        for node in plans[digest].nodes:
            merged.setdefault(node.id, node)
    return merged


def _way(node: Node, operator: Operator, plans: Mapping[str, Plan]) -> _Way:
    users = sorted(digest for digest, plan in plans.items() if any(n.id == node.id for n in plan.nodes))
    pool: Pool = "gil" if operator.holds_gil else "cpu"
    return _Way(operator.granularity.value, pool, operator.per_job, tuple(users))


def _waits_for(node: Node, group_of: Mapping[str, _Group]) -> frozenset[str]:
    """All nodes that must be done before this one can begin, as groups are now."""
    before: set[str] = set()
    for source in node.inputs:
        if source in group_of:
            before |= group_of[source].waits_for
            before.update(group_of[source].nodes)
    return frozenset(before)


def _joinable(
    node: Node,
    way: _Way,
    before: frozenset[str],
    group_of: Mapping[str, _Group],
    readers: Mapping[str, Sequence[str]],
) -> _Group | None:
    """The group of an input that this node may continue, or None."""
    for source in node.inputs:
        group = group_of.get(source)
        if (
            group is not None
            and group.way == way
            and group.nodes[-1] == source
            and readers[source] == [node.id]
            and before <= group.waits_for | frozenset(group.nodes)
        ):
            return group
    return None


def _stage(
    group: _Group, nodes: Mapping[str, Node], readers: Mapping[str, Sequence[str]], wanted: set[str]
) -> Stage:
    inside = frozenset(group.nodes)
    takes = dict.fromkeys(s for n in group.nodes for s in nodes[n].inputs if s not in inside)
    gives = tuple(n for n in group.nodes if n in wanted or not inside.issuperset(readers[n]))
    return Stage(
        id=identity({"nodes": group.nodes, "gives": list(gives)}),
        name="+".join(nodes[n].operator for n in group.nodes),
        nodes=tuple(group.nodes),
        takes=tuple(takes),
        gives=gives,
        granularity=group.way.granularity,  # type: ignore[arg-type]  # Granularity's values are these words
        pool=group.way.pool,
        per_job=group.way.per_job,
        plans=group.way.plans,
        cost=UNMEASURED,
    )

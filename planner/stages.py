"""Cuts the nodes of all live plans into stages: what runs back to back, is scheduled and is shared as one.

Two neighbours join if they run in the same way (granularity, pool, per job or not) for the same plans, the
second is the only reader of the first, and it waits for nothing that the first does not wait for. So no cycle
can arise and branches stay free to run side by side. Networks that are computed together are one stage, with
the first step after each, so that their probability maps need not leave it.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from models.operators.base import Operator
from planner.binding import CostModel, Pool, Stage
from planner.canonical import identity
from planner.networks.joint import Joint
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
    joint: frozenset[str] = frozenset()
    """Those of its nodes that are computed together."""


Remembered: TypeAlias = MutableMapping[Hashable, tuple[Stage, ...]]
"""The stages of nodes that one plan alone has, by all that they depend on."""


def cut_stages(
    plans: Mapping[str, Plan],
    operators: Callable[[Node], Operator],
    joint: Sequence[Joint] = (),
    remembered: Remembered | None = None,
) -> tuple[Stage, ...]:
    """The stages of these plans (by digest), in an execution order valid for each, with unmeasured costs.

    joint: nodes to compute together, each set in one stage (planner.networks.joint.find_joint: they read the
    same and the same plans have them). remembered: filled and used, so that cutting again with one plan more
    costs little; for one and the same `operators` only. The result depends on plans and joint only, not on
    their order.
    """
    counts = Counter(node.id for plan in plans.values() for node in plan.nodes)
    shared = {node_id for node_id, plans_with_it in counts.items() if plans_with_it > 1}
    together = {node: joined.nodes for joined in joint for node in joined.nodes if len(joined.nodes) > 1}
    order = sorted(plans, key=lambda digest: (plans[digest].pipeline, digest))
    cut = _cut_shared([plans[digest] for digest in order], plans, shared, together, operators)
    stages = list(cut.stages())
    for digest in order:
        stages += _own_stages(digest, plans[digest], shared, cut, together, operators, remembered)
    return tuple(stages)


@dataclass(slots=True)
class _Cut:
    """Nodes being put into groups. readers, wanted: of these nodes, by whom, and whether by an output."""

    nodes: Mapping[str, Node]
    readers: Mapping[str, Sequence[str]]
    wanted: Set[str]
    groups: list[_Group] = field(default_factory=list)
    group_of: dict[str, _Group] = field(default_factory=dict)

    def put(self, node: Node, members: Sequence[str], way: _Way) -> None:
        """Put a node, with all members of its joint, into a group; inputs come before their readers."""
        before = _waits_for(node, self.group_of)
        group = _joinable(node, members, way, before, self.group_of, self.readers)
        if group is None:
            group = _Group(way, waits_for=before)
            self.groups.append(group)
        if len(members) > 1:
            group.joint = frozenset(members)
        group.nodes.extend(members)
        self.group_of.update(dict.fromkeys(members, group))

    def stages(self) -> tuple[Stage, ...]:
        return tuple(_stage(group, self.nodes, self.readers, self.wanted) for group in self.groups)


def _cut_shared(
    ordered: Sequence[Plan],
    plans: Mapping[str, Plan],
    shared: Set[str],
    together: Mapping[str, tuple[str, ...]],
    operators: Callable[[Node], Operator],
) -> _Cut:
    """The nodes that two plans or more have; no node of one plan alone comes before any of them."""
    nodes: dict[str, Node] = {}
    for plan in ordered:
        for node in plan.nodes:
            if node.id in shared:
                nodes.setdefault(node.id, node)
    readers: dict[str, dict[str, None]] = {node_id: {} for node_id in nodes}
    users: dict[str, dict[str, None]] = {node_id: {} for node_id in nodes}
    for digest in sorted(plans):
        for node in plans[digest].nodes:
            if node.id in shared:
                users[node.id][digest] = None
            for source in node.inputs:
                if source in shared:
                    readers[source][node.id] = None
    wanted = shared & {node for plan in ordered for node in _outputs(plan)}
    cut = _Cut(nodes, {node_id: tuple(found) for node_id, found in readers.items()}, wanted)
    for node in nodes.values():
        if node.id not in cut.group_of:
            way = _way(operators(node), tuple(users[node.id]))
            cut.put(node, together.get(node.id, (node.id,)), way)
    return cut


def _own_stages(
    digest: str,
    plan: Plan,
    shared: Set[str],
    before: _Cut,
    together: Mapping[str, tuple[str, ...]],
    operators: Callable[[Node], Operator],
    remembered: Remembered | None,
) -> tuple[Stage, ...]:
    """The nodes of one plan alone: where they are cut depends on the plan, and on what they must wait for."""
    own = [node for node in plan.nodes if node.id not in shared]
    joined = tuple(together[node.id] for node in own if node.id in together)
    sources = dict.fromkeys(source for node in own for source in node.inputs if source in shared)
    waits = tuple(
        (source, before.group_of[source].waits_for, *before.group_of[source].nodes) for source in sources
    )
    key = (digest, tuple(node.id for node in own), joined, waits)
    if remembered is not None and key in remembered:
        return remembered[key]
    readers: dict[str, dict[str, None]] = {node.id: {} for node in own}
    for node in own:
        for source in node.inputs:
            if source in readers:
                readers[source][node.id] = None
    cut = _Cut(
        {node.id: node for node in own},
        {node_id: tuple(found) for node_id, found in readers.items()},
        _outputs(plan),
        group_of={source: before.group_of[source] for source in sources},
    )
    for node in own:
        if node.id not in cut.group_of:
            cut.put(node, together.get(node.id, (node.id,)), _way(operators(node), (digest,)))
    stages = cut.stages()
    if remembered is not None:
        remembered[key] = stages
    return stages


def _outputs(plan: Plan) -> set[str]:
    return {n for o in plan.outputs for n in (o.mask, o.measurements, o.segmentation) if n}


def _way(operator: Operator, users: tuple[str, ...]) -> _Way:
    pool: Pool = "gil" if operator.holds_gil else "cpu"
    return _Way(operator.granularity.value, pool, operator.per_job, users)


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
    members: Sequence[str],
    way: _Way,
    before: frozenset[str],
    group_of: Mapping[str, _Group],
    readers: Mapping[str, Sequence[str]],
) -> _Group | None:
    """The group of an input that this node (with all members of its joint) may continue, or None."""
    for source in node.inputs:
        group = group_of.get(source)
        if (
            group is not None
            and group.way == way
            and (source in group.joint if group.joint else group.nodes[-1] == source)
            and set(readers[source]) == set(members)
            and before <= group.waits_for | frozenset(group.nodes)
        ):
            return group
    return None


@lru_cache(maxsize=65536)
def _stage_identity(nodes: tuple[str, ...], gives: tuple[str, ...]) -> str:
    """Remembered, because a compile names all stages of a store again and few are new."""
    return identity({"nodes": list(nodes), "gives": list(gives)})


def _stage(
    group: _Group, nodes: Mapping[str, Node], readers: Mapping[str, Sequence[str]], wanted: Set[str]
) -> Stage:
    inside = frozenset(group.nodes)
    takes = dict.fromkeys(s for n in group.nodes for s in nodes[n].inputs if s not in inside)
    gives = tuple(n for n in group.nodes if n in wanted or not inside.issuperset(readers[n]))
    return Stage(
        id=_stage_identity(tuple(group.nodes), gives),
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

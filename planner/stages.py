"""Cuts the nodes of all live plans into stages: what runs back to back, is scheduled and is shared as one.

Two neighbours join if they run in the same way (granularity, pool, per job or not) for the same plans, the
second is the only reader of the first, and it waits for nothing that the first does not wait for. So no cycle
can arise and branches stay free to run side by side. Networks that are computed together are one stage, with
the first step after each, so that their probability maps need not leave it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache

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


@dataclass(frozen=True, slots=True)
class _Part:
    """A plan in two: `common` are its nodes that other plans have too, `own` those that it alone has.

    sources: common nodes that own ones read.
    """

    common: frozenset[str]
    own: tuple[Node, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _OwnStages:
    """What the own nodes of a plan became, and what of all plans together that depended on."""

    part: _Part
    joined: tuple[tuple[str, ...], ...]
    stages: tuple[Stage, ...]


@dataclass(slots=True)
class Remembered:
    """What was found about plans (by digest) when they were cut: cutting them again with one more costs
    little. For one and the same operators."""

    ids: dict[str, frozenset[str]] = field(default_factory=dict)
    outputs: dict[str, frozenset[str]] = field(default_factory=dict)
    parts: dict[str, _Part] = field(default_factory=dict)
    own: dict[str, _OwnStages] = field(default_factory=dict)
    after: str = ""
    """What the stages in `own` come after: the groups of common nodes, as one word."""

    def ids_of(self, digest: str, plan: Plan) -> frozenset[str]:
        if digest not in self.ids:
            self.ids[digest] = frozenset(node.id for node in plan.nodes)
            self.outputs[digest] = frozenset(_outputs(plan))
        return self.ids[digest]

    def part_of(self, digest: str, plan: Plan, shared: Set[str]) -> _Part:
        common = self.ids_of(digest, plan) & shared
        part = self.parts.get(digest)
        if part is None or part.common != common:
            own = tuple(node for node in plan.nodes if node.id not in common)
            sources = dict.fromkeys(source for node in own for source in node.inputs if source in common)
            part = self.parts[digest] = _Part(common, own, tuple(sources))
        return part


def cut_stages(
    plans: Mapping[str, Plan],
    operators: Callable[[Node], Operator],
    joint: Sequence[Joint] = (),
    remembered: Remembered | None = None,
) -> tuple[Stage, ...]:
    """The stages of these plans (by digest), in an execution order valid for each, with unmeasured costs.

    joint: nodes to compute together, each set in one stage (planner.networks.joint.find_joint: they read the
    same and the same plans have them). remembered: filled and used; without it, nothing is remembered. The
    result depends on plans and joint only, not on their order.
    """
    remembered = remembered or Remembered()
    shared = _in_several(remembered.ids_of(digest, plan) for digest, plan in plans.items())
    together = {node: joined.nodes for joined in joint for node in joined.nodes if len(joined.nodes) > 1}
    order = sorted(plans, key=lambda digest: (plans[digest].pipeline, digest))
    parts = {digest: remembered.part_of(digest, plans[digest], shared) for digest in order}
    wanted = shared & set[str]().union(*(remembered.outputs[digest] for digest in order))
    cut = _cut_shared(plans, parts, wanted, together, operators)
    if remembered.after != (after := cut.said()):
        remembered.own.clear()
        remembered.after = after
    stages = list(cut.stages())
    for digest, part in parts.items():
        joined = tuple(together[node.id] for node in part.own if node.id in together) if together else ()
        known = remembered.own.get(digest)
        if known is None or known.part is not part or known.joined != joined:
            found = _own_stages(digest, plans[digest], part, cut, together, operators)
            known = remembered.own[digest] = _OwnStages(part, joined, found)
        stages += known.stages
    return tuple(stages)


def _in_several(plans: Iterable[frozenset[str]]) -> set[str]:
    """Nodes of two plans or more."""
    once: set[str] = set()
    several: set[str] = set()
    for ids in plans:
        several |= once & ids
        once |= ids
    return several


@dataclass(slots=True)
class _Cut:
    """Nodes being put into groups. readers, wanted: of these nodes, by whom, and whether by an output."""

    nodes: Mapping[str, Node]
    readers: Mapping[str, Set[str]]
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

    def said(self) -> str:
        """The groups as one word: equal words, equal groups."""
        return "\n".join(" ".join((*sorted(group.waits_for), "|", *group.nodes)) for group in self.groups)

    def stages(self) -> tuple[Stage, ...]:
        return tuple(_stage(group, self.nodes, self.readers, self.wanted) for group in self.groups)


_OWN_READER = "a plan's own node"
"""Stands for all readers that only one plan has: a node they read ends its group, whoever they are."""


def _cut_shared(
    plans: Mapping[str, Plan],
    parts: Mapping[str, _Part],
    wanted: Set[str],
    together: Mapping[str, tuple[str, ...]],
    operators: Callable[[Node], Operator],
) -> _Cut:
    """The nodes that two plans or more have; no node of one plan alone comes before any of them.

    Plans with the same common nodes are looked at once: with hundreds of sites of a few pipelines, most are.
    parts: in the order that nodes of several pipelines are to have.
    """
    alike: dict[frozenset[str], list[str]] = {}
    for digest, part in parts.items():
        alike.setdefault(part.common, []).append(digest)
    nodes: dict[str, Node] = {}
    sets_with: dict[str, tuple[frozenset[str], ...]] = {}
    for common, having in alike.items():
        for node in plans[having[0]].nodes:
            if node.id in common:
                nodes.setdefault(node.id, node)
                sets_with[node.id] = (*sets_with.get(node.id, ()), common)
    users = {
        sets: tuple(sorted(digest for common in sets for digest in alike[common]))
        for sets in set(sets_with.values())
    }
    readers: dict[str, set[str]] = {node_id: set() for node_id in nodes}
    for node in nodes.values():
        for source in node.inputs:
            if source in readers:
                readers[source].add(node.id)
    for source in {source for part in parts.values() for source in part.sources}:
        readers[source].add(_OWN_READER)
    cut = _Cut(nodes, readers, wanted)
    for node in nodes.values():
        if node.id not in cut.group_of:
            way = _way(operators(node), users[sets_with[node.id]])
            cut.put(node, together.get(node.id, (node.id,)), way)
    return cut


def _own_stages(
    digest: str,
    plan: Plan,
    part: _Part,
    before: _Cut,
    together: Mapping[str, tuple[str, ...]],
    operators: Callable[[Node], Operator],
) -> tuple[Stage, ...]:
    """The nodes of one plan alone: where they are cut depends on the plan, and on what they must wait for."""
    readers: dict[str, set[str]] = {node.id: set() for node in part.own}
    for node in part.own:
        for source in node.inputs:
            if source in readers:
                readers[source].add(node.id)
    cut = _Cut(
        {node.id: node for node in part.own},
        readers,
        _outputs(plan),
        group_of={source: before.group_of[source] for source in part.sources},
    )
    for node in part.own:
        if node.id not in cut.group_of:
            cut.put(node, together.get(node.id, (node.id,)), _way(operators(node), (digest,)))
    return cut.stages()


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
    readers: Mapping[str, Set[str]],
) -> _Group | None:
    """The group of an input that this node (with all members of its joint) may continue, or None."""
    for source in node.inputs:
        group = group_of.get(source)
        if (
            group is not None
            and group.way == way
            and (source in group.joint if group.joint else group.nodes[-1] == source)
            and readers[source] == set(members)
            and before <= group.waits_for | frozenset(group.nodes)
        ):
            return group
    return None


@lru_cache(maxsize=65536)
def _stage_identity(nodes: tuple[str, ...], gives: tuple[str, ...]) -> str:
    """Remembered, because a compile names all stages of a store again and few are new."""
    return identity({"nodes": list(nodes), "gives": list(gives)})


def _stage(
    group: _Group, nodes: Mapping[str, Node], readers: Mapping[str, Set[str]], wanted: Set[str]
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

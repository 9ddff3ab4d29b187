"""Where several networks over one input are cut: what they share runs once, where least has to be carried.

A shared **prefix** saves computing: an operator that k networks have saves k - 1 runs of it, and every value
that leaves it has to be carried from one graph to the next. Which operators to share is one minimum cut over
all networks at once. A shared **suffix** (other values, equal operators and weights) saves holding weights
more than once: a byte of weights is worth a byte carried, cut likewise.
Heads that take hardly longer than it takes to call them join the graph before them, for several outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from planner.networks.cutting.flow import FlowGraph
from planner.networks.cutting.suffix import suffixes_of
from planner.networks.cutting.union import Group, Union, UnionOp, Whole, union_of

RUN_S = 5e-5
"""Calling one more graph: 14 us measured for an empty one; the rest, for what is around it, is a guess."""
CARRIED_BYTES_PER_S = 4e9
"""A guess: one pass over a value that leaves a graph, when it is written and in every graph that reads it.
The copy alone is faster (10 to 12 GB/s measured), but the runtime's own layout should be lost too."""
WORTH = 0.97
"""Networks are taken apart only if that is expected to take no more than this share of the time ..."""
MEMORY_WORTH = 1.03
"""... or this, where weights need not be held more than once for it."""
APART_SHARE = 0.05
"""A head that needs more than this share of its own time for being called apart joins the graph before it. A
guess: five decoders of a 7.8 M-parameter U-Net took the same either way, within the noise of the machine."""

_PICO = 1e12


@dataclass(frozen=True, slots=True)
class Cut:
    """The networks as groups, in an order of computation; an operator nobody shares may lie in several."""

    union: Union
    groups: tuple[Group, ...]
    together_s: float
    """Expected time of all groups, with what is carried, for the size of input looked at."""
    apart_s: float
    """Expected time of the networks one by one."""
    held_once_bytes: int
    """Weights of shared suffixes that need not be held again for every network."""

    def takes(self, group: Group) -> tuple[str, ...]:
        """Values that the group reads from others, or inputs of the networks; in the order of its ports."""
        made = {value for op in group.ops for value in self.union.ops[op].outputs}
        read = {value for op in group.ops for value in self.union.computed(self.union.ops[op])}
        return tuple(sorted(read - made, key=lambda value: self._read_as(group, value)))

    def gives(self, group: Group) -> tuple[str, ...]:
        """Values of the group that other groups of its users read, or that a user gives."""
        made = {value for op in group.ops for value in self.union.ops[op].outputs if value}
        wanted = {value for user in group.users for value in self.union.outputs[user]}
        for other in self.groups:
            if other is not group and not set(other.users).isdisjoint(group.users):
                wanted.update(self.takes(other))
        return tuple(sorted(made & wanted, key=lambda value: self._made_as(group, value)))

    def _read_as(self, group: Group, value: str) -> str:
        """What orders ports: the value's id, or, of a suffix, its first use, which all networks share."""
        if not group.ids:
            return value
        uses = ((group.ids[op], self.union.ops[op].inputs) for op in group.ops)
        return min(f"{tail}.{inputs.index(value):04}" for tail, inputs in uses if value in inputs)

    def _made_as(self, group: Group, value: str) -> str:
        if not group.ids:
            return value
        made = ((group.ids[op], self.union.ops[op].outputs) for op in group.ops)
        return next(f"{tail}.{outputs.index(value):04}" for tail, outputs in made if value in outputs)


def cut(networks: Mapping[str, Whole], fed: tuple[int, ...]) -> Cut | None:
    """How to run these networks (by digest) on one input, or None where nothing is worth sharing.

    fed: shape of what x0 is given ([1, 1, ...]). The result does not depend on the order of the networks.
    """
    union = union_of(networks, fed)
    if union is None:
        return None
    shared = _shared_ops(union)
    groups = _merged(union, _groups(union, shared))
    heads = {group.users[0]: group.ops for group in groups if not group.shared}
    groups = _with_suffixes(groups, suffixes_of(union, heads))
    if not any(group.shared for group in groups):
        return None
    apart_s = sum(op.seconds * len(op.users) for op in union.ops.values())
    together_s, held = _seconds(Cut(union, tuple(groups), 0.0, apart_s, 0)), _held_once(union, groups)
    worth = WORTH if not held else MEMORY_WORTH
    return Cut(union, tuple(groups), together_s, apart_s, held) if together_s <= worth * apart_s else None


def _shared_ops(union: Union) -> frozenset[str]:
    """The ops to run once: the exact optimum of computing saved against values carried."""
    flow: FlowGraph[str] = FlowGraph()
    readers, makers = union.readers(), union.makers()
    for op in union.ops.values():
        if len(op.users) < 2 or any(value not in union.values for value in op.outputs if value):
            flow.never(op.id, "private")
            continue
        flow.arc("shared", op.id, round((len(op.users) - 1) * op.seconds * _PICO))
        for value in union.computed(op):
            if value in makers:
                flow.never(op.id, makers[value])
        for value in filter(None, op.outputs):
            _carry(flow, union, op, value, readers.get(value, []))
    chosen = flow.source_side("shared", "private") & union.ops.keys()
    saved = sum((len(union.ops[op].users) - 1) * union.ops[op].seconds for op in chosen)
    return chosen if saved > RUN_S else frozenset()


def _carry(flow: FlowGraph[str], union: Union, op: UnionOp, value: str, readers: list[str]) -> None:
    """Once computed in a shared graph, a value that is read outside of it has to be carried to its users."""
    passes = 1 + len(op.users)
    picoseconds = round(passes * (union.values[value].nbytes or 0) / CARRIED_BYTES_PER_S * _PICO)
    if any(union.ops[reader].users != op.users for reader in readers):
        flow.arc(op.id, "private", picoseconds)
    elif readers:
        flow.arc(op.id, f"{value} carried", picoseconds)
        for reader in readers:
            flow.never(f"{value} carried", reader)


def _groups(union: Union, shared: frozenset[str]) -> list[Group]:
    """Shared ops by who uses them, most users first; then what is left of each network."""
    by_users: dict[tuple[str, ...], list[str]] = {}
    for op in union.ops.values():
        if op.id in shared:
            by_users.setdefault(op.users, []).append(op.id)
    order = sorted(by_users, key=lambda users: (-len(users), users))
    groups = [Group(users, by_users[users], True) for users in order]
    for network in sorted(union.outputs):
        own = [op.id for op in union.ops.values() if network in op.users and op.id not in shared]
        if own:
            groups.append(Group((network,), own, False))
    return groups


def _merged(union: Union, groups: list[Group]) -> list[Group]:
    """Groups that take hardly longer than calling them join the last group they read from."""
    kept: list[Group] = []
    while groups:
        group = groups.pop()
        found = Cut(union, (*groups, group, *kept), 0.0, 0.0, 0)
        takes = found.takes(group)
        before = [other for other in groups if not set(takes).isdisjoint(found.gives(other))]
        carried_s = sum((union.values[v].nbytes or 0) for v in takes) / CARRIED_BYTES_PER_S
        own_s = sum(union.ops[op].seconds for op in group.ops)
        if before and RUN_S + carried_s > APART_SHARE * own_s:
            before[-1].ops.extend(op for op in group.ops if op not in set(before[-1].ops))
        else:
            kept.insert(0, group)
    return kept


def _with_suffixes(groups: list[Group], suffixes: Mapping[str, list[Group]]) -> list[Group]:
    """Each head without the suffix it shares, followed by that."""
    result = []
    for group in groups:
        if group.shared or group.users[0] not in suffixes:
            result.append(group)
            continue
        tails = suffixes[group.users[0]]
        cut_off = {op for tail in tails for op in tail.ops}
        own = [op for op in group.ops if op not in cut_off]
        result += [Group(group.users, own, False)] if own else []
        result += tails
    return result


def _held_once(union: Union, groups: list[Group]) -> int:
    """Weights of suffixes beyond their first network."""
    seen: set[str] = set()
    held = 0
    for group in groups:
        for op in group.ops if group.ids else ():
            if group.ids[op] in seen:
                weights = dict.fromkeys(value for value in union.ops[op].inputs if value in union.tensors)
                held += sum(union.tensors[value][1].nbytes for value in weights)
            seen.add(group.ids[op])
    return held


def _seconds(found: Cut) -> float:
    union, total = found.union, 0.0
    for group in found.groups:
        carried = sum(union.values[v].nbytes or 0 for v in (*found.takes(group), *found.gives(group)))
        total += RUN_S + carried / CARRIED_BYTES_PER_S + sum(union.ops[op].seconds for op in group.ops)
    return total

"""Shared suffixes: where networks end in equal operators with equal weights, on values of their own.

An operator's identity from behind: its type, attributes and weights, and what its results are used for, down
to the outputs. Within one network no two operators have the same, so equal ones match one to one.
Nothing is computed less often; the weights are held once, in one session, for all networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.canonical import identity
from planner.networks.cutting.flow import FlowGraph
from planner.networks.cutting.union import Group, Union

LEAST_BYTES = 1 << 20
"""Weights that a shared suffix must save; one more graph is not worth less. A guess."""


@dataclass(slots=True)
class _Tail:
    """What several networks do from here on. ops: in the union, by network."""

    ops: dict[str, str]
    weights_bytes: int
    reads: list[str]
    gives: list[str]

    @property
    def users(self) -> tuple[str, ...]:
        return tuple(sorted(self.ops))


def suffixes_of(union: Union, heads: Mapping[str, Sequence[str]]) -> dict[str, list[Group]]:
    """By network, the groups at its end that it shares, in order of computation; a shared group is there once
    for each of its networks, with equal `ids`. heads: the ops that each network runs alone.
    """
    tails: dict[str, _Tail] = {}
    ids = {network: _from_behind(union, network, ops, tails) for network, ops in heads.items()}
    chosen = _chosen(union, tails)
    result: dict[str, list[Group]] = {}
    for network in sorted(heads):
        classes: dict[tuple[str, ...], list[str]] = {}
        for op in heads[network]:
            tail = ids[network][op]
            if tail in chosen:
                classes.setdefault(tails[tail].users, []).append(op)
        if classes:
            order = sorted(classes, key=lambda users: (len(users), users))
            result[network] = [Group((network,), classes[users], True, ids[network]) for users in order]
    return result


def _from_behind(union: Union, network: str, ops: Sequence[str], tails: dict[str, _Tail]) -> dict[str, str]:
    """Ids of the ops from behind; `tails` gains what this network does."""
    uses: dict[str, list[tuple[str, int]]] = {}
    for place, value in enumerate(union.outputs[network]):
        uses.setdefault(value, []).append(("output", place))
    ids: dict[str, str] = {}

    def value_id(value: str) -> str:
        return identity(sorted(uses.get(value, []))) if value else ""

    for op_id in reversed(ops):
        op = union.ops[op_id]
        computed = list(union.computed(op))
        inputs = [f"computed {computed.index(v)}" if v in computed else v for v in op.inputs]
        gives = [value_id(value) for value in op.outputs]
        ids[op_id] = tail_id = identity([op.op.domain, op.op.type, op.op.attributes, inputs, gives])
        for place, value in enumerate(op.inputs):
            if value in computed:
                uses.setdefault(value, []).append((tail_id, place))
        weights = sum(union.tensors[v][1].nbytes for v in dict.fromkeys(op.inputs) if v in union.tensors)
        tail = tails.setdefault(tail_id, _Tail({}, weights, [], gives))
        tail.ops[network] = op_id
    for op_id in ops:
        op = union.ops[op_id]
        tails[ids[op_id]].reads = [value_id(value) for value in union.computed(op)]
    return ids


def _chosen(union: Union, tails: Mapping[str, _Tail]) -> frozenset[str]:
    """The tails to share: the exact optimum of weights held once against values carried."""
    flow: FlowGraph[str] = FlowGraph()
    makers = {value: tail for tail, what in tails.items() for value in what.gives}
    readers: dict[str, list[str]] = {}
    for tail, what in tails.items():
        for value in what.reads:
            readers.setdefault(value, []).append(tail)
    for tail, what in tails.items():
        if len(what.ops) < 2:
            flow.never(tail, "own")
            continue
        flow.arc("shared", tail, (len(what.ops) - 1) * what.weights_bytes)
        for value in what.gives:
            for reader in readers.get(value, []):
                flow.never(tail, reader)
    for value, read_by in sorted(readers.items()):
        maker = makers.get(value, "own")
        users = tails[maker].users if maker in tails else ()
        for tail in read_by:
            if tails[tail].users != users:
                flow.arc(tail, "own", _carried(union, tails[tail], value))
            else:
                flow.arc(tail, maker, _carried(union, tails[tail], value))
    chosen = flow.source_side("shared", "own") & tails.keys()
    saved = sum((len(tails[tail].ops) - 1) * tails[tail].weights_bytes for tail in chosen)
    return chosen if saved >= LEAST_BYTES else frozenset()


def _carried(union: Union, tail: _Tail, value: str) -> int:
    """Bytes of the value in all networks: which of the op's inputs it is does not matter for the sum."""
    total = 0
    for op_id in tail.ops.values():
        op = union.ops[op_id]
        place = tail.reads.index(value)
        known = union.values.get(list(union.computed(op))[place])
        total += (known.nbytes or 0) if known else 1 << 40
    return total

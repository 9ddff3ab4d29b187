"""Finds chains of numeric nodes in plans: what could be computed as one ONNX graph."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.operators.base import Operator
from models.pipeline import SOURCE_TYPE
from models.values import ValueType
from planner.execute import OperatorFrom
from planner.numeric.build import TOLERANCES, build, can_build, further_types
from planner.plan import SOURCE, Node, Plan

_WORDS = frozenset(operator.name for operator in TOLERANCES)
"""Of operators that have a form as a graph, at least on some inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Nodes, each the only reader of the one before it; given: the type of the first's first input."""

    nodes: tuple[Node, ...]
    operators: tuple[Operator, ...]
    given: ValueType

    @property
    def tolerance(self) -> float:
        """Of the whole, relative to the largest magnitude of its result."""
        return sum(TOLERANCES[type(operator)] for operator in self.operators)

    def parts(self) -> "tuple[Chain, ...]":
        """Each node as a chain of its own."""
        types = [self.given]
        for operator in self.operators[:-1]:
            types.append(operator.infer([types[-1], *further_types(operator)]))
        return tuple(
            Chain(nodes=(node,), operators=(operator,), given=given)
            for node, operator, given in zip(self.nodes, self.operators, types, strict=True)
        )

    def graph(self) -> bytes:
        """The chain as an ONNX model; equal chains, equal bytes."""
        return build(self.operators, self.given)


def numeric_chains(plans: Iterable[Plan], operators: OperatorFrom) -> tuple[Chain, ...]:
    """The longest chains of nodes that have a form as a graph, in an order that the plans' does not change.

    A node that an output or more than one node reads, in any of the plans, ends its chain.
    """
    nodes: dict[str, Node] = {}
    wanted: set[str] = set()
    for plan in plans:
        for node in plan.nodes:
            nodes.setdefault(node.id, node)
        wanted.update(n for o in plan.outputs for n in (o.mask, o.measurements) if n is not None)
    readers: dict[str, set[str]] = {}
    for node in nodes.values():
        for source in node.inputs:
            readers.setdefault(source, set()).add(node.id)
    types = _Types(nodes, operators)
    chain_of: dict[str, list[Node]] = {}
    chains: list[list[Node]] = []
    for node in nodes.values():
        if node.operator not in _WORDS or not can_build(operators(node), types.of(node.inputs[0])):
            continue
        before = node.inputs[0]
        chain = chain_of.get(before)
        if chain is None or readers[before] != {node.id} or before in wanted:
            chain = []
            chains.append(chain)
        chain.append(node)
        chain_of[node.id] = chain
    return tuple(
        Chain(
            nodes=tuple(chain),
            operators=tuple(operators(node) for node in chain),
            given=types.of(chain[0].inputs[0]),
        )
        for chain in sorted(chains, key=lambda chain: [node.id for node in chain])
    )


class _Types:
    """Types of values by node id, inferred when asked for: of most nodes nobody asks."""

    def __init__(self, nodes: Mapping[str, Node], operators: OperatorFrom) -> None:
        self._nodes, self._operators = nodes, operators
        self._known = {SOURCE: SOURCE_TYPE}

    def of(self, node_id: str) -> ValueType:
        if node_id not in self._known:
            node = self._nodes[node_id]
            inputs = [self.of(source) for source in node.inputs]
            self._known[node_id] = self._operators(node).infer(inputs)
        return self._known[node_id]

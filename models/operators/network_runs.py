"""Runs the networks of one or several operators on one piece of a volume: sessions, variants, activations."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.base import Resources

Array = NDArray[np.float32]
Activation: TypeAlias = Literal["none", "sigmoid", "softmax"]


class TogetherSession(Protocol):
    """Several networks over one input; what they have in common is computed once."""

    def run(self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Iterator[list[Array]]:
        """Outputs of each wanted network (digest), in that order, each computed when it is asked for."""
        ...


@runtime_checkable
class SharingResources(Protocol):
    """Resources that know which networks have parts in common."""

    def networks(self, graphs: Sequence[str]) -> TogetherSession | None:
        """The session for exactly these networks, in any order; None if they share nothing."""
        ...


class RunsNetworks(Protocol):
    """What is asked of an operator; see models.operators.network.Network, which is one."""

    @property
    def input(self) -> str: ...
    @property
    def output(self) -> int: ...
    @property
    def segments(self) -> tuple[str, ...]: ...
    @property
    def activation(self) -> Activation: ...
    def members(self) -> tuple[tuple[str, str], ...]: ...


class Member(NamedTuple):
    """One network, as it is fed."""

    graph: str
    variant: str
    input: str


class NetworkRuns:
    """Networks ready to run: float32[n, 1, ...] -> float32[n, classes, ...] of each operator, activated.

    The result of an operator with several networks is their mean. Each network runs once, however many
    operators want it.
    """

    def __init__(self, operators: Sequence[RunsNetworks], resources: Resources) -> None:
        self._operators = operators
        self._members = [
            [Member(graph, variant, operator.input) for graph, variant in operator.members()]
            for operator in operators
        ]
        self._unique = tuple(dict.fromkeys(member for members in self._members for member in members))
        self._together = _together(self._unique, resources)
        self._resources = resources

    def __call__(self, fed: Array) -> list[Array]:
        fed = np.ascontiguousarray(fed, np.float32)
        results: list[Array | None] = [None] * len(self._operators)
        for member, outputs in zip(self._unique, self._outputs(fed), strict=True):
            for place, operator in enumerate(self._operators):
                if times := self._members[place].count(member):
                    result = activated(_output(operator, outputs, fed), operator.activation)
                    results[place] = _added(results[place], result, times, len(self._members[place]))
        return [result for result in results if result is not None]

    def _outputs(self, fed: Array) -> Iterator[list[Array]]:
        """Of each network, one after the other, so that one's outputs are gone before the next's come."""
        if self._together is not None:
            yield from self._together.run({self._unique[0].input: fed}, [m.graph for m in self._unique])
            return
        for member in self._unique:
            session = self._resources.network(member.graph)
            variant = self._resources.parameters(member.variant) if member.variant else {}
            yield session.run({**variant, member.input: fed})


def activated(logits: Array, activation: Activation) -> Array:
    """Probabilities from float32[n, classes, ...], over axis 1 for softmax."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _together(members: Sequence[Member], resources: Resources) -> TogetherSession | None:
    alike = len({member.input for member in members}) == 1 and not any(m.variant for m in members)
    if len(members) > 1 and alike and isinstance(resources, SharingResources):
        return resources.networks([member.graph for member in members])
    return None


def _added(total: Array | None, result: Array, times: int, count: int) -> Array:
    """The sum so far with one more, each divided by their count: one network's is as it is, bit for bit.

    times: how often it is named among the `count`, and so is added.
    """
    if count == times:
        return result
    share = result / np.float32(count)
    for _ in range(times):
        total = share.copy() if total is None else np.add(total, share, out=total)
    assert total is not None
    return total


def _output(operator: RunsNetworks, outputs: Sequence[Array], fed: Array) -> Array:
    if operator.output >= len(outputs):
        raise KernelError(f"the graph has {len(outputs)} outputs, and no number {operator.output}")
    result = np.asarray(outputs[operator.output], np.float32)
    names = len(operator.segments)
    expected = (len(fed), *fed.shape[2:])
    if (result.shape[0], *result.shape[2:]) != expected:
        raise KernelError(f"fed {fed.shape}, the graph gave {result.shape}")
    if result.shape[1] != names + 1 and not result.shape[1] == names == 1:
        raise KernelError(f"the graph has {result.shape[1]} classes, which {names} segments do not fit")
    return result

"""Which of two operands comes first that are computed alike, from other learned numbers."""

from collections.abc import Iterator, Mapping
from functools import total_ordering
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.reading.canonical.graph import Node

MOST_NODES = 256
"""A guess: operators looked at per operand. Trained networks differ in the first that has numbers."""
SIGNS = 64
_CHUNK = 1 << 20


class Ties:
    """Learned numbers of a graph. producer: the node that computes each value."""

    def __init__(self, constants: Mapping[str, NDArray[Any]], producer: Mapping[str, Node]) -> None:
        self._constants, self._producer = constants, producer

    def rank(self, name: str) -> "Rank":
        """What to order a value or constant by."""
        return Rank(self, name)

    def arrays(self, name: str) -> Iterator[NDArray[Any]]:
        """Floating-point arrays that the value depends on, from it backwards: filters before all others.

        Filters of variants are alike, be they tuned or scaled channel by channel, so that these are put in
        the order of the network they are variants of; offsets need not be.
        """
        for filters in (True, False):
            for array in self._below(name):
                if (array.size > max(array.shape, default=1)) == filters:
                    yield array

    def _below(self, name: str) -> Iterator[NDArray[Any]]:
        waiting, seen = [name], 0
        known: set[str] = set()
        while waiting and seen < MOST_NODES:
            name = waiting.pop()
            if name in known:
                continue
            known.add(name)
            if name in self._constants:
                if self._constants[name].dtype.kind == "f":
                    yield self._constants[name]
            elif name in self._producer:
                seen += 1
                waiting += reversed(self._producer[name].inputs)


@total_ordering
class Rank:
    """Comparable: by the first array that differs."""

    def __init__(self, ties: Ties, name: str) -> None:
        self._ties, self._name = ties, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rank) and not self._compared(other)

    def __lt__(self, other: "Rank") -> bool:
        return self._compared(other) < 0

    __hash__ = None  # type: ignore[assignment]

    def _compared(self, other: "Rank") -> int:
        if self._name == other._name:
            return 0
        pairs = zip_longest(self._ties.arrays(self._name), other._ties.arrays(other._name))
        for one, two in pairs:
            if one is None or two is None:
                return -1 if one is None else 1
            if one is not two and (found := compared(one, two)):
                return found
        return 0


def compared(one: NDArray[Any], other: NDArray[Any]) -> int:
    """-1, 0 or 1. By the signs of the first numbers, as neither training on nor scaling turns many of them;
    then by the first number that differs, bit by bit."""
    if (one.dtype.str, one.shape) != (other.dtype.str, other.shape):
        return -1 if (one.dtype.str, one.shape) < (other.dtype.str, other.shape) else 1
    first, second = one.reshape(-1), other.reshape(-1)
    signs = np.signbit(first[:SIGNS]), np.signbit(second[:SIGNS])
    apart = np.flatnonzero(signs[0] != signs[1])
    if apart.size:
        return -1 if signs[0][apart[0]] else 1
    bits = np.dtype(f"u{one.dtype.itemsize}")
    for start in range(0, first.size, _CHUNK):
        a, b = first[start : start + _CHUNK].view(bits), second[start : start + _CHUNK].view(bits)
        apart = np.flatnonzero(a != b)
        if apart.size:
            return -1 if a[apart[0]] < b[apart[0]] else 1
    return 0

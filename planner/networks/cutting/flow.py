"""The exact minimum cut of a directed graph with whole-number capacities (Dinic's algorithm)."""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

N = TypeVar("N", bound=Hashable)


class FlowGraph(Generic[N]):
    """Arcs are added, then the graph is cut once."""

    def __init__(self) -> None:
        self._number: dict[N, int] = {}
        self._out: list[list[int]] = []
        self._to: list[int] = []
        self._left: list[int] = []
        self._all = 1

    def arc(self, tail: N, head: N, capacity: int) -> None:
        """What cutting between them costs."""
        self._all += capacity
        self._add(tail, head, capacity)

    def never(self, tail: N, head: N) -> None:
        """An arc that no cut may go through: where `tail` is on the source's side, `head` is as well."""
        self._add(tail, head, -1)

    def source_side(self, source: N, sink: N) -> frozenset[N]:
        """The smallest source's side among all cuts that cost least. Afterwards the capacities are spent."""
        start, end = self._index(source), self._index(sink)
        for edge, left in enumerate(self._left):
            if left < 0:
                self._left[edge] = self._all  # more than all others together
        while (levels := self._levels(start))[end] >= 0:
            nexts = [0] * len(self._out)
            while self._augment(start, end, levels, nexts):
                pass
        return frozenset(node for node, number in self._number.items() if levels[number] >= 0)

    def _add(self, tail: N, head: N, capacity: int) -> None:
        ends = self._index(tail), self._index(head)
        for (from_, to), left in ((ends, capacity), (ends[::-1], 0)):
            self._out[from_].append(len(self._to))
            self._to.append(to)
            self._left.append(left)

    def _index(self, node: N) -> int:
        if node not in self._number:
            self._number[node] = len(self._out)
            self._out.append([])
        return self._number[node]

    def _levels(self, start: int) -> list[int]:
        levels = [-1] * len(self._out)
        levels[start] = 0
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for edge in self._out[node]:
                if self._left[edge] and levels[self._to[edge]] < 0:
                    levels[self._to[edge]] = levels[node] + 1
                    queue.append(self._to[edge])
        return levels

    def _augment(self, start: int, end: int, levels: list[int], nexts: list[int]) -> bool:
        """Push flow along one shortest path; False if there is none left. (No recursion: nets are deep.)"""
        path: list[int] = []
        node = start
        while node != end:
            while nexts[node] < len(self._out[node]):
                edge = self._out[node][nexts[node]]
                if self._left[edge] and levels[self._to[edge]] == levels[node] + 1:
                    break
                nexts[node] += 1
            else:
                if not path:
                    return False
                node = self._to[path.pop() ^ 1]
                nexts[node] += 1
                continue
            path.append(edge)
            node = self._to[edge]
        flow = min(self._left[edge] for edge in path)
        for edge in path:
            self._left[edge] -= flow
            self._left[edge ^ 1] += flow
        return True

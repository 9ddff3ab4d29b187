"""Compute what depends on constants only, shapes included, so far as no free size goes into them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.reading.canonical.evaluate import TooLarge, evaluate
from planner.networks.reading.canonical.graph import Dim, Graph, Node, Type
from planner.networks.reading.canonical.sizes import Sizes, reshaped, sizes_of
from planner.networks.reading.limits import Limits

GROWTH_BYTES = 1 << 20
"""A constant larger than this and than what it is computed from stays uncomputed: it would only take room."""


class AbsurdConstant(Exception):
    """A constant beyond all limits would have to be computed."""


def fold_constants(graph: Graph, limits: Limits) -> None:
    """Replace operators on constants by constants, and Shape by constants where the sizes are known.

    Floating-point results are numpy's, so within rounding. `graph.folded_bytes` counts what was made.
    Raises: AbsurdConstant, where constants grow beyond `limits.folded_bytes`, be they computed or left.
    """
    made = _Made(graph, limits)
    partial: dict[str, Sizes] = {}
    kept: list[Node] = []
    scalars: set[str] = set()
    spelled: dict[tuple[Dim, ...], str] = {}
    for node in graph.nodes:
        value = made.constant(node)
        if value is None and len(node.outputs) == 1:
            sizes = sizes_of(graph, node, partial)
            if sizes is not None:
                partial[node.outputs[0]] = sizes
                scalars.update(node.outputs if graph.rank_of(node.outputs[0]) == 0 else ())
                if all(isinstance(size, int) for size in sizes):
                    value = np.array(sizes, np.int64)
                    if graph.rank_of(node.outputs[0]) == 0:
                        value = value.reshape(())
        if value is not None:
            graph.constants[node.outputs[0]] = value
            continue
        if node.type == "Reshape":
            _settle_reshape(graph, node, partial)
        for place, name in enumerate(node.inputs):
            if name in partial and name not in scalars and node.outputs[0] not in partial:
                node.inputs[place] = _spell(graph, partial[name], spelled, kept) or name
        kept.append(node)
    graph.nodes = kept
    graph.drop_unused()


class _Made:
    """Constants as they are computed, and how much room they take."""

    def __init__(self, graph: Graph, limits: Limits) -> None:
        self._graph, self._limits = graph, limits
        self._left: set[str] = set()
        """Values that depend on constants only and stay uncomputed."""
        self._given = sum(array.nbytes for array in graph.constants.values())

    def constant(self, node: Node) -> NDArray[Any] | None:
        """What a node computes from constants; None where it is not ours to compute."""
        constants = self._graph.constants
        read = [name for name in node.inputs if name]
        if not read or any(name not in constants and name not in self._left for name in read):
            return None
        value = None
        if len(node.outputs) == 1 and self._left.isdisjoint(read):
            value = self._computed(node)
        if value is None:
            self._leave(node)
        return value

    def _computed(self, node: Node) -> NDArray[Any] | None:
        constants = self._graph.constants
        given = [constants[name] if name else None for name in node.inputs]
        read = sum(constants[name].nbytes for name in set(node.inputs) if name)
        room = self._limits.folded_bytes - self._graph.folded_bytes
        try:
            found = evaluate(node, given, min(max(GROWTH_BYTES, 2 * read), room))
        except TooLarge as error:
            if error.nbytes > room and error.nbytes > 2 * read:
                raise AbsurdConstant(f"{node.type} makes a constant of {error.nbytes} bytes") from error
            return None
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError):
            return None  # it stays an operator; whoever runs the network gives the error
        if found is None:
            return None
        self._graph.folded_bytes += found[1]
        return found[0]

    def _leave(self, node: Node) -> None:
        """For others to compute, unless it is more than all numbers of the file and all that may be made."""
        for name in node.outputs:
            kind = self._graph.type_of(name)
            self._left.add(name)
            if kind.dtype is None or kind.shape is None:
                continue
            nbytes = np.dtype(kind.dtype).itemsize
            for size in kind.shape:
                nbytes *= size if isinstance(size, int) else 1
            if nbytes > self._given + self._limits.folded_bytes:
                raise AbsurdConstant(f"{node.type} makes a constant of {nbytes} bytes")


def _spell(graph: Graph, sizes: Sizes, spelled: dict[tuple[Dim, ...], str], kept: list[Node]) -> str | None:
    """The sizes computed in the plainest way: Shape of as many axes at once as there are, and Concat.

    Returns: the value that has them; None where one of them is not a size of anything.
    """
    key = tuple(sizes)
    if key in spelled:
        return spelled[key]
    sources = []
    if graph.opset < 15:  # Shape gives all axes only
        return None
    for size in sizes:
        source = size if isinstance(size, int) else _source(graph, size)
        if source is None:
            return None
        sources.append(source)
    parts: list[str] = []
    place = 0
    while place < len(sources):
        source, end = sources[place], place + 1
        if isinstance(source, int):
            while end < len(sources) and isinstance(sources[end], int):
                end += 1
            parts.append(graph.add_constant(np.array(sources[place:end], np.int64)))
        else:
            value, axis = source
            while end < len(sources) and sources[end] == (value, axis + end - place):
                end += 1
            parts.append(graph.new_name())
            last = axis + end - place
            attributes = {"start": axis} if last == graph.rank_of(value) else {"start": axis, "end": last}
            kept.append(Node("Shape", [value], [parts[-1]], attributes))
            graph.types[parts[-1]] = Type("int64", (end - place,))
        place = end
    if len(parts) == 1:
        spelled[key] = parts[0]
    else:
        spelled[key] = graph.new_name()
        kept.append(Node("Concat", parts, [spelled[key]], {"axis": 0}))
        graph.types[spelled[key]] = Type("int64", (len(sizes),))
    return spelled[key]


def _source(graph: Graph, size: Dim) -> tuple[str, int] | None:
    """A value and its axis that has this size."""
    if not isinstance(size, str):
        return None
    if size.startswith("\0"):
        axis, value = size[1:].split("\0", 1)
        return (value, int(axis)) if graph.rank_of(value) is not None else None
    for port in graph.inputs:
        if size in port.shape:
            return port.name, port.shape.index(size)
    return None


def _settle_reshape(graph: Graph, node: Node, partial: dict[str, Sizes]) -> None:
    """A computed shape as a constant: 0 where a free size is copied, -1 for one that is not known."""
    wanted = reshaped(graph, node, partial)
    if wanted is None:
        return
    before = graph.type_of(node.inputs[0]).shape or ()
    given = graph.constants.get(node.inputs[1])
    stated = None if given is None else [int(size) for size in given]
    settled = [
        _spelled(size, axis, before, copied=stated is not None and stated[axis] == 0)
        for axis, size in enumerate(wanted)
    ]
    if settled.count(-1) <= 1 and settled != stated:
        node.inputs[1] = graph.add_constant(np.array(settled, np.int64))
    if node.inputs[1] in graph.constants:
        node.attributes.pop("allowzero", None)


def _spelled(size: Dim, axis: int, before: tuple[Dim, ...], *, copied: bool) -> int:
    """0: the size the value had on this axis; -1: whatever is left."""
    if isinstance(size, int):
        return size
    same = size is not None and axis < len(before) and before[axis] == size
    return 0 if same or copied else -1

"""Sizes as values: what Shape, Gather, Concat and their like compute, as far as it is known beforehand."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from planner.networks.reading.canonical.graph import Dim, Graph, Node

Sizes: TypeAlias = list[Dim]
"""A one-dimensional array of integers (or one integer) of which some are not known, or are free sizes."""


def sizes_of(graph: Graph, node: Node, partial: dict[str, Sizes]) -> Sizes | None:
    """The integers an operator gives, as far as they are known; None if it is no matter of shapes."""
    if node.type == "Shape":
        shape = graph.type_of(node.inputs[0]).shape
        if shape is None:
            return None
        sizes: Sizes = [
            _own(node.inputs[0], axis) if size is None else size for axis, size in enumerate(shape)
        ]
        return sizes[slice(node.attributes.get("start", 0), node.attributes.get("end"))]
    given = [_known(graph, name, partial) for name in node.inputs]
    if not given or given[0] is None or not any(name in partial for name in node.inputs):
        return None
    match node.type:
        case "Gather":
            return _gathered(graph, node, given[0])
        case "Slice":
            return _sliced(given)
        case "Concat":
            return None if None in given else [size for sizes in given if sizes is not None for size in sizes]
        case "Squeeze" | "Unsqueeze" | "Identity":
            return given[0]
        case "Reshape":
            rank = graph.rank_of(node.outputs[0])
            return given[0] if rank is not None and rank <= 1 else None
        case "Cast":
            return given[0] if node.attributes.get("to") == 7 else None
        case "Add" | "Sub" | "Mul" | "Div":
            return _computed(node.type, given)
    return None


def _known(graph: Graph, name: str, partial: dict[str, Sizes]) -> Sizes | None:
    if name in partial:
        return partial[name]
    value = graph.constants.get(name)
    if value is None or value.dtype != np.int64 or value.ndim > 1 or value.size > 64:
        return None
    return [int(number) for number in value.reshape(-1)]


def _gathered(graph: Graph, node: Node, sizes: Sizes) -> Sizes | None:
    indices = graph.constants.get(node.inputs[1])
    if indices is None or indices.ndim > 1:
        return None
    places = [int(index) for index in indices.reshape(-1)]
    if any(not -len(sizes) <= place < len(sizes) for place in places):
        return None
    return [sizes[place] for place in places]


def _sliced(given: Sequence[Sizes | None]) -> Sizes | None:
    sizes, *rest = given
    numbers = [part[0] if part else None for part in rest]
    if sizes is None or len(numbers) < 2 or not all(isinstance(number, int) for number in numbers[:2]):
        return None
    step = numbers[3] if len(numbers) > 3 else 1
    if step != 1 or any(part is not None and len(part) != 1 for part in rest):
        return None
    start, end = numbers[0], numbers[1]
    assert isinstance(start, int)  # as was just seen
    assert isinstance(end, int)
    return sizes[start:end]


def _computed(operator: str, given: Sequence[Sizes | None]) -> Sizes | None:
    first, second = given
    if first is None or second is None:
        return None
    count = max(len(first), len(second))
    if len(first) not in (1, count) or len(second) not in (1, count):
        return None
    result: Sizes = []
    for place in range(count):
        a, b = first[place % len(first)], second[place % len(second)]
        if operator in ("Mul", "Div") and b == 1:
            result.append(a)
        elif operator == "Mul" and a == 1:
            result.append(b)
        elif not isinstance(a, int) or not isinstance(b, int) or (operator == "Div" and (b <= 0 or a < 0)):
            result.append(None)
        else:
            number = {"Add": a + b, "Sub": a - b, "Mul": a * b, "Div": a // b if b else 0}[operator]
            result.append(number if abs(number) < 1 << 62 else None)
    return result


def _own(value: str, axis: int) -> str:
    """The word for a size that has none: that of this axis of this value."""
    return f"\0{axis}\0{value}"


def reshaped(graph: Graph, node: Node, partial: dict[str, Sizes]) -> Sizes | None:
    """The shape a Reshape gives, as far as it is known: None for a size that is not, -1 for one left open."""
    sizes = _known(graph, node.inputs[1], partial)
    before = graph.type_of(node.inputs[0]).shape or ()
    given = node.inputs[1] in graph.constants
    if sizes is None or (given and node.attributes.get("allowzero", 0) and 0 in sizes):
        return None
    wanted: Sizes = []
    for axis, size in enumerate(sizes):
        copied = given and size == 0 and axis < len(before)
        wanted.append(before[axis] if copied else size)
    _solve(wanted, before, given)
    return wanted


def _solve(wanted: Sizes, before: tuple[Dim, ...], given: bool) -> None:
    """Say what the one size left open (-1 in a given shape, else unknown) comes to, if that is known."""
    open_axes = [axis for axis, size in enumerate(wanted) if size == -1 or (size is None and not given)]
    if len(open_axes) != 1 or not before:
        return
    rest: Counter[str] = Counter()
    number = [1, 1]  # of all there is, of all that is spoken for
    for sign, sizes in ((1, before), (-1, [s for axis, s in enumerate(wanted) if axis != open_axes[0]])):
        for size in sizes:
            if size is None:
                return
            if isinstance(size, str):
                rest[size] += sign
            else:
                number[sign < 0] *= size
    words = [word for word, count in rest.items() for _ in range(abs(count))]
    if any(count < 0 for count in rest.values()) or len(words) > 1 or not number[1] or number[0] % number[1]:
        return
    quotient = number[0] // number[1]
    if not words:
        wanted[open_axes[0]] = quotient
    elif quotient == 1:
        wanted[open_axes[0]] = words[0]

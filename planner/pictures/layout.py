"""Places boxes in layers, inputs above readers: Sugiyama's method, for graphs of some dozens of boxes.

Longest-path layers; points where edges pass through layers; barycentre sweeps for the order within layers;
then places, alternating "under the mean of my neighbours" and "not over each other" (isotonic regression).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

GAP_X, GAP_Y = 28.0, 46.0
"""Least free space between boxes side by side, and between layers."""

_SWEEPS = 40
"""Orders settle within a few sweeps at our sizes; more cost nothing."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box to place. hint: where along the layer it would like to be (smaller: more to the left)."""

    id: str
    width: float
    height: float
    inputs: tuple[str, ...]
    hint: float
    last: bool = False
    """True: in the bottom layer, whatever its inputs."""


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Upper left corners of boxes, and the pieces of line, each from its upper to its lower end."""

    corners: Mapping[str, Point]
    lines: tuple[tuple[Point, Point], ...]
    width: float
    height: float


@dataclass(slots=True)
class _Item:
    """A box, or a point (no height) where an edge passes through a layer."""

    layer: int
    width: float
    hint: float
    above: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)
    x: float = 0.0
    real: bool = True


def place(boxes: Sequence[Box]) -> Layout:
    """Where everything goes. Boxes must be in an order with inputs before readers."""
    layers = _layers(boxes)
    items = _with_points(boxes, layers)
    rows = _ordered(items)
    _align(items, rows)
    left = min(item.x - item.width / 2 for item in items.values())
    for item in items.values():
        item.x -= left
    heights = [max((b.height for b in boxes if layers[b.id] == n), default=0.0) for n in range(len(rows))]
    tops = [sum(heights[:n]) + n * GAP_Y for n in range(len(rows))]
    corners = {b.id: Point(items[b.id].x - b.width / 2, tops[layers[b.id]]) for b in boxes}
    ports = _ports(items, {box.id: box.width for box in boxes})
    bottoms = {b.id: corners[b.id].y + b.height for b in boxes}
    lines: list[tuple[Point, Point]] = []
    for name, item in items.items():
        if not item.real:
            top, bottom = tops[item.layer], tops[item.layer] + heights[item.layer]
            lines.append((Point(item.x, top), Point(item.x, bottom)))
            bottoms[name] = bottom
    for name, item in items.items():
        for lower in item.below:
            start = Point(ports.get((name, lower), item.x), bottoms[name])
            end = Point(ports.get((lower, name), items[lower].x), tops[items[lower].layer])
            lines.append((start, end))
    width = max(item.x + item.width / 2 for item in items.values())
    return Layout(corners, tuple(lines), width, tops[-1] + heights[-1])


def _layers(boxes: Sequence[Box]) -> dict[str, int]:
    layers: dict[str, int] = {}
    for box in boxes:
        layers[box.id] = max((layers[source] + 1 for source in box.inputs), default=0)
    bottom = max(layers.values())
    return {box.id: bottom if box.last else layers[box.id] for box in boxes}


def _with_points(boxes: Sequence[Box], layers: Mapping[str, int]) -> dict[str, _Item]:
    """Boxes, and the points where edges pass through layers.

    Edges from one box to readers with one hint share their way down and part only where they must.
    """
    items = {b.id: _Item(layers[b.id], b.width, b.hint) for b in boxes}
    for box in boxes:
        for source in dict.fromkeys(box.inputs):
            upper = source
            for layer in range(layers[source] + 1, layers[box.id]):
                point = f"{source} to {box.hint:g} at {layer}"
                if point not in items:
                    items[point] = _Item(layer, 8.0, box.hint, real=False)
                    _link(items, upper, point)
                upper = point
            _link(items, upper, box.id)
    return items


def _link(items: Mapping[str, _Item], upper: str, lower: str) -> None:
    items[upper].below.append(lower)
    items[lower].above.append(upper)


def _ordered(items: Mapping[str, _Item]) -> list[list[str]]:
    """Names by layer, from left to right, with few crossings."""
    rows: list[list[str]] = [[] for _ in range(max(item.layer for item in items.values()) + 1)]
    for name, item in items.items():
        rows[item.layer].append(name)
    for row in rows:
        row.sort(key=lambda name: items[name].hint)
    best, fewest = [list(row) for row in rows], _crossings(items, rows)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            rank = {name: index for line in rows for index, name in enumerate(line)}
            centre = {}
            for name in row:
                near = items[name].above if downwards else items[name].below
                centre[name] = sum(rank[n] for n in near) / len(near) if near else float(rank[name])
            row.sort(key=lambda name: (centre[name], items[name].hint))
        crossings = _crossings(items, rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _crossings(items: Mapping[str, _Item], rows: Sequence[Sequence[str]]) -> int:
    count = 0
    for upper, lower in itertools.pairwise(rows):
        rank = {name: index for index, name in enumerate(lower)}
        ends = [rank[name] for above in upper for name in sorted(items[above].below, key=rank.__getitem__)]
        count += sum(later < earlier for i, earlier in enumerate(ends) for later in ends[i + 1 :])
    return count


def _align(items: Mapping[str, _Item], rows: Sequence[Sequence[str]]) -> None:
    """Give every item its x, keeping the order of each row."""
    for row in rows:
        _spread(items, row, [0.0] * len(row))
    for sweep in range(2 * _SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = []
            for name in row:
                item = items[name]
                near = [items[other] for other in (*item.above, *item.below)]
                # Long lines are to be straight: their points hold together.
                weights = [1.0 if item.real or other.real else 8.0 for other in near]
                pull = sum(w * other.x for w, other in zip(weights, near, strict=True))
                wanted.append(pull / sum(weights) if near else item.x)
            _spread(items, row, wanted)


def _spread(items: Mapping[str, _Item], row: Sequence[str], wanted: Sequence[float]) -> None:
    """As near to `wanted` as possible (least squares) without overlap: pool adjacent violators."""
    offsets = [0.0]
    for one, other in itertools.pairwise(row):
        offsets.append(offsets[-1] + (items[one].width + items[other].width) / 2 + GAP_X)
    pools: list[tuple[float, float, int]] = []  # (mean, weight, members)
    for name, want, offset in zip(row, wanted, offsets, strict=True):
        mean, weight, members = want - offset, 1.0 if items[name].real else 2.0, 1
        while pools and pools[-1][0] > mean:
            other_mean, other_weight, other_members = pools.pop()
            mean = (mean * weight + other_mean * other_weight) / (weight + other_weight)
            weight, members = weight + other_weight, members + other_members
        pools.append((mean, weight, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    for name, mean, offset in zip(row, means, offsets, strict=True):
        items[name].x = mean + offset


def _ports(items: Mapping[str, _Item], widths: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """(box, neighbour) -> x where their line meets the box: spread along it in the neighbours' order."""
    ports: dict[tuple[str, str], float] = {}
    for name, width in widths.items():
        for side in (items[name].above, items[name].below):
            step = min(width * 0.6 / len(side), 36.0) if side else 0.0
            for index, other in enumerate(sorted(side, key=lambda neighbour: items[neighbour].x)):
                ports[name, other] = items[name].x + (index - (len(side) - 1) / 2) * step
    return ports

"""What a network is calibrated and judged on, and smaller pieces of it for what needs no whole image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.networks.structure import Structure

Feed: TypeAlias = Mapping[str, NDArray[Any]]
"""Inputs of one run, by the structure's names."""

PIECE = {1: 4096, 2: 256, 3: 64}
"""Sides that a piece is cut down to, by spatial axes: a guess that keeps a run under half a second."""
_PLACES = ((0.5, 0.5, 0.5), (0.3, 0.5, 0.6), (0.7, 0.4, 0.4), (0.5, 0.7, 0.3))
"""Where pieces are centred: the middle, then three places off it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image. Its feeds (slices, cubes) are judged together."""

    name: str
    feeds: tuple[Feed, ...]


def as_cases(given: Sequence[Case | Feed], what: str) -> tuple[Case, ...]:
    """A bare feed is a case of its own."""
    return tuple(
        case if isinstance(case, Case) else Case(f"{what} {number}", (case,))
        for number, case in enumerate(given, 1)
    )


def pieces(structure: Structure, cases: Sequence[Case], count: int) -> tuple[Feed, ...]:
    """`count` pieces of the cases' feeds at places spread over them: one item each, sides at most PIECE.

    A side is cut only where the network leaves it free. Deterministic.
    """
    feeds = [feed for case in cases for feed in case.feeds]
    spread = [feeds[(number * len(feeds)) // count] for number in range(count)] if feeds else []
    return tuple(
        _piece(structure, feed, _PLACES[number % len(_PLACES)]) for number, feed in enumerate(spread)
    )


def _piece(structure: Structure, feed: Feed, place: Sequence[float]) -> Feed:
    return {
        port.name: np.ascontiguousarray(feed[port.name][tuple(_window(port.shape, feed[port.name], place))])
        for port in structure.inputs
        if port.name in feed
    }


def _window(shape: Sequence[int | str], array: NDArray[Any], place: Sequence[float]) -> Iterator[slice]:
    spatial = array.ndim - 2
    side = PIECE.get(spatial)
    for axis, (free, length) in enumerate(zip(shape, array.shape, strict=True)):
        if axis == 0 and isinstance(free, str):
            middle = length // 2
            yield slice(middle, middle + 1)
        elif axis >= 2 and isinstance(free, str) and side is not None and length > side:
            start = min(max(int(place[(axis - 2) % len(place)] * length) - side // 2, 0), length - side)
            yield slice(start, start + side)
        else:
            yield slice(None)

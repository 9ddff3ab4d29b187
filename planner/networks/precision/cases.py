"""What a network is calibrated and judged on, and smaller pieces of it for what needs no whole image."""

import math
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
_LEVELS = 32
"""Sides of the coarsest voxels of usual networks: a half's is a multiple of it where the whole's is."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image. Its feeds (slices, cubes) are judged together."""

    name: str
    feeds: tuple[Feed, ...]


def as_cases(given: Sequence[Case | Feed], what: str) -> tuple[Case, ...]:
    """A bare feed is a case of its own. Raises: ValueError for a case without a feed."""
    cases = tuple(
        case if isinstance(case, Case) else Case(f"{what} {number}", (case,))
        for number, case in enumerate(given, 1)
    )
    if empty := [case.name for case in cases if not case.feeds]:
        raise ValueError(f"{what} '{empty[0]}' has no feed")
    return cases


@dataclass(frozen=True, slots=True)
class Halves:
    """One image in two: one half to calibrate on, one held out. how: in words, how it was cut."""

    calibration: Case
    held_out: Case
    how: str


def halved(structure: Structure, case: Case, multiple_of: int = 1) -> Halves | None:
    """Cut one image in two. None where its only feed cannot be cut.

    Of several feeds, or of several items in the only one, every second goes into either half. Else the feed
    is cut in the middle of the longest spatial side that the network leaves free; what is left over between
    two halves whose sides must be multiples is in neither.
    multiple_of: what the step says of its sides; 1: nothing.
    """
    feeds = case.feeds
    if len(feeds) == 1:
        feeds = _items(structure, feeds[0])
    if len(feeds) > 1:
        words, parts = ("every second tile", "the tiles between"), (feeds[0::2], feeds[1::2])
    else:
        two = _sides(structure, feeds[0], multiple_of) if feeds else None
        if two is None:
            return None
        words, parts = ("one half", "the other half"), ((two[0],), (two[1],))
    calibration, held_out = (Case(f"{case.name}, {w}", part) for w, part in zip(words, parts, strict=True))
    return Halves(calibration, held_out, f"calibrated on {words[0]} of it and judged on {words[1]}")


def _items(structure: Structure, feed: Feed) -> tuple[Feed, ...]:
    """Two feeds with every second item of this one each, or this one where it has no two."""
    ports = [port for port in structure.inputs if port.name in feed]
    if any(not port.shape or isinstance(port.shape[0], int) for port in ports):
        return (feed,)
    counts = {len(feed[port.name]) for port in ports}
    if len(counts) != 1 or min(counts) < 2:
        return (feed,)
    return tuple(
        {name: np.ascontiguousarray(array[start::2]) for name, array in feed.items()} for start in (0, 1)
    )


def _sides(structure: Structure, feed: Feed, multiple_of: int) -> tuple[Feed, Feed] | None:
    """Its two ends along the longest side that can be cut, in every input that has it: equally long."""
    free = [
        (port.name, axis, word)
        for port in structure.inputs
        for axis, word in enumerate(port.shape)
        if port.name in feed and axis >= 2 and isinstance(word, str)
    ]
    lengths = {word: feed[name].shape[axis] for name, axis, word in free}
    long = [word for word, length in lengths.items() if _half(length, multiple_of)]
    longest = max(long, key=lambda word: lengths[word], default="")
    if not longest:
        return None
    half = _half(lengths[longest], multiple_of)
    cut = {(name, axis) for name, axis, word in free if word == longest}

    def end(kept: slice) -> Feed:
        return {
            name: np.ascontiguousarray(
                array[tuple(kept if (name, axis) in cut else slice(None) for axis in range(array.ndim))]
            )
            for name, array in feed.items()
        }

    return end(slice(None, half)), end(slice(lengths[longest] - half, None))


def _half(length: int, multiple_of: int) -> int:
    """Of a side, at most; 0 where it is too short."""
    step = multiple_of
    if step == 1:  # nothing is said, but the network may halve its sides, and takes this one
        step = math.gcd(length, _LEVELS)
        while 2 * step > length > 1:
            step //= 2
    return length // 2 // step * step


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

"""Undo folded normalisation: find the filter that two exports share, and the factor of each channel.

An exporter that folds a normalisation into a convolution multiplies each output channel of its filter by one
number. Two such filters differ by the ratio of these numbers, up to rounding (2.4e-7 was measured).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.families.filters import Filter

TOLERANCE = 1e-6
"""How far a refolded number may be off, relative to the largest of its channel."""

_CHUNK = 1 << 16  # numbers at a time, so that every pass stays in the cache
_UNIT = 2.0**-23  # of the last place of a float32, relative to the number: at most this
_SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal
_BITS = (2, 4, 8)
_FITS = 127  # the most that a residual holds

Float = NDArray[np.float32]
_Part = Callable[[NDArray[Any]], NDArray[Any]]
_Channels = Callable[[Float], Float]


@dataclass(frozen=True, slots=True)
class Unfolded:
    """scale: float32[channels], folded = canonical * scale; error: at most, relative to a channel's largest.

    residual: int8, flat: what the bits of the refolded filter lack, as integers, to be the folded one's; None
    if some do not fit.
    """

    scale: Float
    error: float
    residual: NDArray[np.int8] | None


def peaks(filter_: Filter, tensor: NDArray[Any]) -> NDArray[np.int64]:
    """For each channel, where in the flat tensor its largest number (by magnitude) lies."""
    largest = np.abs(filter_.by_channel(tensor)).argmax(axis=1)
    return filter_.places(np.arange(filter_.channels), largest.astype(np.int64))


def unfold(
    filter_: Filter,
    canonical: Float,
    folded: Float,
    peak: NDArray[np.int64],
    tolerance: float = TOLERANCE,
) -> Unfolded | None:
    """The factors that turn `canonical` into `folded` within `tolerance`, or None if there are none.

    peak: of the canonical filter, as `peaks` gives it. A channel that is zero in both has factor 1; one that
    is zero only in `canonical` has none.
    """
    if canonical.dtype != np.float32 or folded.dtype != np.float32:
        return None
    divisor, dividend = canonical.reshape(-1)[peak], folded.reshape(-1)[peak]
    with np.errstate(all="ignore"):
        scale = np.where(divisor == 0, 1, dividend / divisor).astype(np.float32)
    largest = np.abs(dividend)
    if not np.isfinite(scale).all() or ((largest > 0) & (largest < _SMALLEST_NORMAL)).any():
        return None
    residual: NDArray[np.int8] | None = np.empty(canonical.size, np.int8)
    error = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for part, channels in _parts(filter_):
            was, now = part(canonical), part(folded)
            refolded = was * channels(scale)
            lacking = now.view(np.int32) - refolded.view(np.int32)
            most = max(int(lacking.max()), -int(lacking.min()))
            if most * _UNIT <= tolerance:
                error = max(error, most * _UNIT)
            else:
                apart, allowed = np.abs(now - refolded), channels(largest)
                if not (apart <= tolerance * allowed).all():
                    return None
                error = max(error, float((apart / np.where(allowed == 0, 1, allowed)).max()))
            if most > _FITS:
                residual = None
            if residual is not None:
                part(residual)[...] = lacking
    return Unfolded(scale, error, residual)


def refolded(
    filter_: Filter, canonical: Float, scale: Float, residual: NDArray[np.int8] | None = None
) -> Float:
    """canonical * scale, channel by channel; with the residual of `unfold` the folded filter, bit for bit."""
    found = np.empty(canonical.size, np.float32)
    with np.errstate(all="ignore"):
        for part, channels in _parts(filter_):
            np.multiply(part(canonical), channels(scale), out=part(found))
            if residual is not None:
                part(found).view(np.int32)[...] += part(residual)
    return found.reshape(canonical.shape)


def bits_of(residual: NDArray[np.int8]) -> int:
    """How many bits each number of a residual needs: 2, 4 or 8."""
    lowest, highest = int(residual.min(initial=0)), int(residual.max(initial=0))
    return next(bits for bits in _BITS if -(1 << bits - 1) <= lowest and highest < 1 << bits - 1)


def packed_residual(residual: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """8 // bits numbers to a byte: the first part of the numbers in the lowest bits, and so on."""
    parts, lowest = 8 // bits, np.uint8((1 << bits) - 1)
    if lacking := -residual.size % parts:
        residual = np.pad(residual, (0, lacking))
    rows = residual.view(np.uint8).reshape(parts, -1)
    result = rows[0] & lowest
    for part in range(1, parts):
        result |= (rows[part] & lowest) << np.uint8(bits * part)
    return np.asarray(result)


def unpacked_residual(data: NDArray[np.uint8], bits: int, size: int) -> NDArray[np.int8]:
    """The `size` numbers that `packed_residual` packed."""
    shifted = [(data << (8 - bits * (part + 1))).astype(np.uint8) for part in range(8 // bits)]
    rows = np.stack(shifted).view(np.int8) >> (8 - bits)  # an arithmetic shift brings the sign back
    return np.asarray(rows.reshape(-1)[:size], np.int8)


def _parts(filter_: Filter) -> Iterator[tuple[_Part, _Channels]]:
    """Pieces of a filter that fit into the cache, each with a view of a number per channel that fits it."""
    groups, rows, columns, taps = filter_.view
    if rows == 1:
        step = max(1, _CHUNK // taps)
        for start in range(0, groups * columns, step):
            piece = slice(start, start + step)
            yield _slice((groups * columns, taps), piece), _column(piece)
        return
    step = max(1, _CHUNK // (columns * taps))
    for group in range(groups):
        for start in range(group * rows, (group + 1) * rows, step):
            piece = slice(start, min(start + step, (group + 1) * rows))
            own = slice(group * columns, (group + 1) * columns)
            yield _slice((groups * rows, columns * taps), piece), _row(own, taps)


def _slice(shape: tuple[int, int], piece: slice) -> _Part:
    return lambda tensor: tensor.reshape(shape)[piece]


def _column(piece: slice) -> _Channels:
    return lambda numbers: numbers[piece, None]


def _row(own: slice, taps: int) -> _Channels:
    return lambda numbers: np.repeat(numbers[own], taps)

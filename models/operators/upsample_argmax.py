"""Linear interpolation and argmax in one: labels on a fine grid without the classes that cannot win.

Interpolation is a convex combination: inside a block of cells no class exceeds the largest, nor falls below
the smallest, of its values at the corners of these cells. So a class whose largest value is below the
smallest of another class is nowhere in the block the likeliest. Where one class is left, the block is that
class; elsewhere only those left are interpolated, with the arithmetic of models.operators.linear. The labels
are bit for bit those of interpolating everything: a class is left out only where rounding could not have made
it the largest either.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.linear import line

Array: TypeAlias = NDArray[np.float32]

BLOCK = 32
"""Cells of a block along rows and columns. On 105 classes, 43x267x267 to 64x512x512: 8 took 4.3 s, 16, 24 and
32 took 1.2 s; on noise, where no class can be left out, 16 took 24 s and 32 took 16 s."""

FEW_CLASSES = 8
"""Up to so many, blocks are twice as wide: there is little to leave out, and calls cost more than cells (one
class to 64x512x512: 0.13 s with 32, 0.08 s with 64)."""

ROUNDING = np.float32(2**-19)
"""More than three interpolations in float32 can be off, relative to the largest value: each is three
roundings (of up to 2, 2 and 1 times 2**-24), so 15 * 2**-24 in all, and this is 32 * 2**-24."""

LARGE = np.float32(1e37)
"""Where values are larger, or not finite, differences may overflow: nothing is left out there."""

COPIED_BYTES = 128 << 20
"""How much is copied at a time where neighbours across the planes are neighbours in memory."""


class _Axis(NamedTuple):
    """Targets along one axis: the value at `below`, or with weights between it and the next one."""

    below: NDArray[np.intp]
    weight: Array | None


class _Extremes(NamedTuple):
    """float32[classes, blocks, blocks]: smallest and largest value of a class in a block, edges included."""

    low: Array
    high: Array


class _Span(NamedTuple):
    """A block along one axis: cells first <= i < after of the map, and targets begin <= i < end in them."""

    number: int
    first: int
    after: int
    begin: int
    end: int


class ArgmaxUpsampler:
    """Gives labels on planes that run along two axes of a map of class values.

    Remembers what it found of the slices it last worked on: ask for planes in ascending order.
    """

    def __init__(self, values: Array, axes: tuple[int, int, int], threshold: float) -> None:
        """values: float32[classes, ...three axes]; axes: which of the three runs across the planes, which
        from row to row, which from column to column; threshold: of a single class.

        Raises: KernelError for more than 256 classes, which labels of 8 bits cannot tell apart.
        """
        if len(values) > 256:
            raise KernelError(f"{len(values)} classes do not fit labels of 8 bits")
        across, rows, columns = axes
        self._block = BLOCK if len(values) > FEW_CLASSES else 2 * BLOCK
        self._slices = _Slices(values.transpose(0, 1 + across, 1 + rows, 1 + columns))
        self._size = values.shape[1 + across], values.shape[1 + rows], values.shape[1 + columns]
        self._threshold = np.float32(threshold) if len(values) == 1 else None
        self._extremes: dict[int, _Extremes] = {}
        self._possible: tuple[tuple[int, ...], NDArray[np.bool_]] | None = None

    def label(
        self,
        across: float,
        rows: NDArray[np.float64],
        columns: NDArray[np.float64],
        labels: NDArray[np.uint8],
    ) -> None:
        """Write the labels of one plane into `labels`, uint8[len(rows), len(columns)].

        across: where the plane lies, in voxels of the map; rows, columns: where its rows and columns lie,
        ascending or descending. Beyond the edge the edge goes on.
        """
        if not rows.size or not columns.size:
            return
        here, down, along = (
            _Axis(*line(at, size))
            for at, size in zip((np.array([across]), rows, columns), self._size, strict=True)
        )
        if rows[0] > rows[-1]:
            down, labels = _reversed(down), labels[::-1]
        if columns[0] > columns[-1]:
            along, labels = _reversed(along), labels[:, ::-1]
        first = int(here.below[0])
        between = here.weight is not None
        possible = self._possible_in(first, between)
        low, high = self._slices.pair(first, between)
        for row in _spans(down, self._size[1], self._block):
            for column in _spans(along, self._size[2], self._block):
                target = labels[row.begin : row.end, column.begin : column.end]
                classes = np.flatnonzero(possible[row.number, column.number])
                if len(classes) == 1:
                    target[...] = classes[0]
                    continue
                box = (slice(row.first, row.after + 1), slice(column.first, column.after + 1))
                chosen = slice(None) if self._threshold is not None else classes
                block = low[:, *box][chosen]
                if here.weight is not None and high is not None:
                    block = block + (high[:, *box][chosen] - block) * here.weight[0]
                fine = _interpolated(block.transpose(2, 0, 1), down, row, along, column)
                if self._threshold is not None:
                    target[...] = (fine[:, 0] > self._threshold).T
                else:
                    target[...] = _likeliest(fine, classes).T

    def _possible_in(self, first: int, between: bool) -> NDArray[np.bool_]:
        """bool[blocks, blocks, classes]: which classes may win between slice `first` and the next."""
        slices = (first, first + 1) if between else (first,)
        if self._possible is None or self._possible[0] != slices:
            for known in self._extremes.keys() - set(slices):
                del self._extremes[known]
            pair = self._slices.pair(first, between)
            for number, plane in zip(slices, pair, strict=False):
                if number not in self._extremes and plane is not None:
                    self._extremes[number] = _extremes(plane, self._block)
            found = [self._extremes[number] for number in slices]
            low = np.minimum(found[0].low, found[-1].low)
            high = np.maximum(found[0].high, found[-1].high)
            self._possible = slices, _possible(low, high, self._threshold)
        return self._possible[1]


class _Slices:
    """The map's slices across the planes, made contiguous a few at a time where they are not."""

    def __init__(self, values: Array) -> None:
        self._values = values
        self._copied: Array | None = None
        self._from = 0
        strides = [abs(stride) for stride in values.strides[1:]]
        scattered = values.shape[1] > 1 and strides[0] == min(strides)
        per_slice = values.nbytes // values.shape[1]
        self._at_once = max(COPIED_BYTES // max(per_slice, 1), 2) if scattered else 0

    def pair(self, first: int, both: bool) -> tuple[Array, Array | None]:
        """float32[classes, rows, columns]: slice `first` and, if asked for, the one after it."""
        values, offset = self._values, 0
        if self._at_once:
            end = self._from + (0 if self._copied is None else self._copied.shape[1])
            if not self._from <= first <= first + both < end:
                self._copied = None  # frees it before the next is made
                part = values[:, first : first + self._at_once]
                self._copied, self._from = np.ascontiguousarray(part.swapaxes(0, 1)).swapaxes(0, 1), first
            assert self._copied is not None
            values, offset = self._copied, self._from
        return values[:, first - offset], values[:, first + 1 - offset] if both else None


def _reversed(axis: _Axis) -> _Axis:
    return _Axis(axis.below[::-1], None if axis.weight is None else axis.weight[::-1])


def _spans(axis: _Axis, size: int, block: int) -> Iterator[_Span]:
    """The blocks along an axis that have targets in them."""
    for number, first in enumerate(range(0, size, block)):
        begin, end = np.searchsorted(axis.below, (first, first + block))
        if begin < end:
            yield _Span(number, first, first + block, int(begin), int(end))


def _extremes(plane: Array, block: int) -> _Extremes:
    """The smallest and largest values in the blocks of float32[classes, rows, columns]."""
    classes, rows, columns = plane.shape
    starts = [range(0, size, block) for size in (rows, columns)]
    low = np.empty((classes, len(starts[0]), len(starts[1])), np.float32)
    high = np.empty_like(low)
    for i, row in enumerate(starts[0]):
        part = plane[:, row : row + block + 1]
        smallest, largest = part.min(axis=1), part.max(axis=1)
        for j, column in enumerate(starts[1]):
            low[:, i, j] = smallest[:, column : column + block + 1].min(axis=1)
            high[:, i, j] = largest[:, column : column + block + 1].max(axis=1)
    return _Extremes(low, high)


def _possible(low: Array, high: Array, threshold: np.float32 | None) -> NDArray[np.bool_]:
    """bool[blocks, blocks, classes]: may a class win in a block; a threshold stands in as class 0 of two."""
    if threshold is not None:
        limit = np.full_like(low, threshold)
        low, high = np.concatenate([limit, low]), np.concatenate([limit, high])
    magnitude = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(invalid="ignore", over="ignore"):
        slack = magnitude * ROUNDING
        lost = high + slack < (low - slack).max(axis=0)
        lost &= (magnitude < LARGE).all(axis=0)
    return np.ascontiguousarray((~lost).transpose(1, 2, 0))


def _interpolated(block: Array, down: _Axis, row: _Span, along: _Axis, column: _Span) -> Array:
    """float32[target columns, classes, target rows] from float32[columns, classes, rows] of a block.

    Rows come first, as in models.operators.linear: the order decides the rounding.
    """
    block = np.ascontiguousarray(block)
    rows, columns = slice(row.begin, row.end), slice(column.begin, column.end)
    below = down.below[rows] - row.first
    if down.weight is None:
        block = block.take(below, axis=2)
    else:
        rise = (block[:, :, 1:] - block[:, :, :-1]).take(below, axis=2)
        rise *= down.weight[rows]
        block = block.take(below, axis=2)
        block += rise
    below = along.below[columns] - column.first
    if along.weight is None:
        return block.take(below, axis=0)
    rise = (block[1:] - block[:-1]).take(below, axis=0)
    rise *= along.weight[columns, None, None]
    block = block.take(below, axis=0)
    block += rise
    return block


def _likeliest(values: Array, classes: NDArray[np.intp]) -> NDArray[np.uint8]:
    """uint8[m, n] from float32[m, k, n]: of these classes, in ascending order, the first of the largest."""
    best = values[:, 0].copy()
    labels = np.full(best.shape, classes[0], np.uint8)
    for position in range(1, len(classes)):
        value = values[:, position]
        np.copyto(labels, np.uint8(classes[position]), where=value > best)
        np.maximum(best, value, out=best)
    return labels

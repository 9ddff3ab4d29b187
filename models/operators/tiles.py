"""A volume in overlapping tiles, blended back with Gaussian weights: sliding-window inference."""

from collections.abc import Callable, Iterable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

Patch = tuple[int, int, int]
"""Voxels along (slices, rows, columns)."""
Corner = tuple[int, int, int]
Compute = Callable[[NDArray[np.float32]], Iterable[NDArray[np.float32]]]
"""float32[n, 1, ...] -> float32[n, classes, ...] of each result, in a fixed order. What one call gives is the
caller's until the next; equal arguments give equal results."""


def in_tiles(
    voxels: NDArray[np.float32],
    compute: Compute,
    *,
    patch: Patch,
    overlap: float,
    batch: int,
    pad_value: float,
) -> list[NDArray[np.float32]]:
    """Compute a volume tile by tile.

    voxels: float32[slices, rows, columns]; where smaller than a tile, padded at its end with `pad_value`.
    overlap: share of a tile, 0 to below 1, that neighbours have in common (at least; the last tile of an
    axis is moved back to the border). batch: tiles in one call of `compute`.
    Returns: of each result, float32[classes, slices, rows, columns], weighted by a Gaussian around each
    tile's middle (sigma = an eighth of the tile, as nnU-Net has it).
    """
    shape = voxels.shape
    padding = [(0, max(side - size, 0)) for side, size in zip(patch, shape, strict=True)]
    padded = np.pad(voxels, padding, constant_values=pad_value)
    weights = gaussian(patch)
    totals: list[NDArray[np.float32]] = []
    norm = np.zeros(padded.shape, np.float32)
    for corners in _batches(corners_of(padded.shape, patch, overlap), batch):
        boxes = [_box(corner, patch) for corner in corners]
        for place, results in enumerate(compute(np.stack([padded[box] for box in boxes])[:, None])):
            if place == len(totals):
                totals.append(np.zeros((results.shape[1], *padded.shape), np.float32))
            for box, result in zip(boxes, results, strict=True):
                totals[place][(slice(None), *box)] += result * weights
        for box in boxes:
            norm[box] += weights
    slices, rows, columns = shape
    for total in totals:
        total /= norm
    return [np.ascontiguousarray(total[:, :slices, :rows, :columns]) for total in totals]


def corners_of(shape: tuple[int, ...], patch: Patch, overlap: float) -> Iterator[Corner]:
    """First voxels of the tiles that cover `shape` (no axis of which is shorter than the tile)."""
    starts: list[list[int]] = []
    for size, side in zip(shape, patch, strict=True):
        step = max(int(side * (1 - overlap)), 1)
        count = max(-(-(size - side) // step), 0) + 1
        starts.append([round(start) for start in np.linspace(0, size - side, count)])
    yield from product(starts[0], starts[1], starts[2])


def gaussian(patch: Patch) -> NDArray[np.float32]:
    """float32[*patch], 1 in the middle, and nowhere so small that a sum of weights could vanish."""
    sides = []
    for side in patch:
        distance = (np.arange(side) - (side - 1) / 2) / max(side / 8, 1e-6)
        sides.append(np.exp(-0.5 * distance**2))
    weights = sides[0][:, None, None] * sides[1][:, None] * sides[2]
    return np.asarray(np.maximum(weights / weights.max(), 1e-3), np.float32)


def _batches(corners: Iterator[Corner], size: int) -> Iterator[list[Corner]]:
    batch: list[Corner] = []
    for corner in corners:
        batch.append(corner)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _box(corner: Corner, patch: Patch) -> tuple[slice, slice, slice]:
    slices, rows, columns = (slice(start, start + side) for start, side in zip(corner, patch, strict=True))
    return slices, rows, columns

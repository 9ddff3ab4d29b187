"""Linear interpolation on a grid, one axis after the other."""

import numpy as np
from numpy.typing import NDArray


def interpolated(
    array: NDArray[np.float32], axis: int, positions: NDArray[np.float64]
) -> NDArray[np.float32]:
    """`array` at fractional indices along one axis; beyond the edge the edge goes on.

    positions: float64[m], in voxels of that axis. Returns: float32 with m instead of n along `axis`.
    """
    size = array.shape[axis]
    if np.array_equal(positions, np.arange(size)):
        return array
    return blended(array, axis, *line(positions, size))


def interpolated_grid(
    array: NDArray[np.float32], positions: tuple[NDArray[np.float64], ...]
) -> NDArray[np.float32]:
    """`array` at a grid of fractional indices (one array of positions for each of the last axes).

    Axes that shrink most come first, so that the rest has less to do.
    """
    first = array.ndim - len(positions)
    for axis in _order(array.shape[first:], positions):
        array = interpolated(array, first + axis, positions[axis])
    return array


def interpolated_part(
    array: NDArray[np.float32], positions: tuple[NDArray[np.float64], ...], parts: tuple[slice, ...]
) -> NDArray[np.float32]:
    """`interpolated_grid(array, positions)[parts]`, bit for bit, computing (and reading) nothing beyond it.

    parts: for each of the axes, from begin to end, at least one.
    """
    axes = range(array.ndim - len(positions), array.ndim)
    order = _order(array.shape[axes.start :], positions)
    lines = [line(at, array.shape[axis]) for axis, at in zip(axes, positions, strict=True)]
    wanted = []
    for axis, (below, weight), part in zip(axes, lines, parts, strict=True):
        some = below[part]
        low, high = int(some.min()), int(some.max()) + (weight is not None)
        array = array[tuple([slice(None)] * axis + [slice(low, high + 1)])]
        wanted.append((some - low, None if weight is None else weight[part]))
    for axis in order:
        array = blended(array, axes.start + axis, *wanted[axis])
    return array


def line(positions: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.float32] | None]:
    """The index at or below each position on an axis of `size` voxels, and the weight of the next one.

    No weights: every position lies on a voxel. Beyond the edge the edge goes on.
    """
    if np.array_equal(positions, np.arange(size)):
        return np.arange(size), None
    inside = np.clip(positions, 0, size - 1)
    below = np.minimum(inside.astype(np.intp), max(size - 2, 0))
    weight = (inside - below).astype(np.float32)
    return below, weight if weight.any() else None


def blended(
    array: NDArray[np.float32], axis: int, below: NDArray[np.intp], weight: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """What `line` found along an axis: low + (high - low) * weight, in this order of rounding."""
    low = np.take(array, below, axis=axis)
    if weight is None:
        return low
    high = np.take(array, below + 1, axis=axis)
    high -= low
    high *= weight.reshape([-1 if other == axis else 1 for other in range(array.ndim)])
    low += high
    return low


def _order(shape: tuple[int, ...], positions: tuple[NDArray[np.float64], ...]) -> list[int]:
    """The axes, those first that shrink most."""
    ratios = [len(at) / size for at, size in zip(positions, shape, strict=True)]
    return [int(axis) for axis in np.argsort(ratios, kind="stable")]

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
    inside = np.clip(positions, 0, size - 1)
    below = np.minimum(inside.astype(np.intp), max(size - 2, 0))
    weight = (inside - below).astype(np.float32)
    low = np.take(array, below, axis=axis)
    if not weight.any():
        return low
    high = np.take(array, np.minimum(below + 1, size - 1), axis=axis)
    high -= low
    high *= weight.reshape([-1 if other == axis else 1 for other in range(array.ndim)])
    low += high
    return low


def interpolated_grid(
    array: NDArray[np.float32], positions: tuple[NDArray[np.float64], ...]
) -> NDArray[np.float32]:
    """`array` at a grid of fractional indices (one array of positions for each of the last axes).

    Axes that shrink most come first, so that the rest has less to do.
    """
    first = array.ndim - len(positions)
    ratios = [len(at) / array.shape[first + axis] for axis, at in enumerate(positions)]
    for axis in np.argsort(ratios, kind="stable"):
        array = interpolated(array, first + int(axis), positions[axis])
    return array

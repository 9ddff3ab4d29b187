"""Index arithmetic between grids: cropping, shrinking, and the nearest voxel of another grid."""

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.values import Affine

Shape = tuple[int, int, int]
Steps = tuple[float, float, float]
"""Voxels along (slices, rows, columns)."""
Indices = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Fractional voxel indices, one array for each axis."""


def moved_affine(affine: Affine, origin: Steps, step: Steps) -> Affine:
    """The affine of a grid whose voxel (i, j, k) lies at `origin` + (i, j, k) * `step` voxels of this one."""
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ np.asarray(origin, float) + affine[:3, 3]
    moved[:3, :3] = affine[:3, :3] * np.asarray(step, float)
    return moved


def aligned_indices(shape: Shape, affine: Affine, other: Affine) -> Indices:
    """Where the planes of a grid (shape, affine) lie along the same axes of another grid, in its voxels.

    Returns: one float64 array per axis. Raises: KernelError if the axes of the two do not run alike.
    """
    between = np.linalg.inv(other) @ affine
    scale = np.diag(between)[:3]
    drift = np.abs((between[:3, :3] - np.diag(scale)) * np.asarray(shape)).max()
    if drift > 0.05 or (scale <= 0).any():  # a twentieth of a voxel at the far end
        raise KernelError("the axes of the two grids do not run alike")
    first, second, third = (
        between[axis, 3] + scale[axis] * np.arange(size, dtype=np.float64) for axis, size in enumerate(shape)
    )
    return first, second, third


def nearest_on(array: NDArray[np.uint8], indices: tuple[NDArray[np.float64], ...]) -> NDArray[np.uint8]:
    """The voxels of `array` nearest to these positions (indices for each axis); 0 beyond its edges."""
    for axis, positions in enumerate(indices):
        nearest = np.floor(positions + 0.5).astype(np.intp)
        size = array.shape[axis]
        if np.array_equal(nearest, np.arange(size)):
            continue
        array = np.take(array, np.clip(nearest, 0, size - 1), axis=axis)
        beyond = (nearest < 0) | (nearest >= size)
        if beyond.any():
            array[tuple([slice(None)] * axis + [beyond])] = 0
    return array

"""A regular, right-angled grid out of parallel planes that are sheared (gantry tilt) or unevenly spaced."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.geometry import grid_affine, in_plane, normal_of
from models.values import Affine, SourcePlanes

Plane = NDArray[np.float32]
"""float32[rows, columns]"""

NO_SHIFT_PIXELS = 0.01
"""Planes shifted by less than this are copied."""


def resampled(pixels: Sequence[Plane], planes: SourcePlanes) -> tuple[NDArray[np.float32], Affine]:
    """Interpolate linearly: each plane is shifted in itself to undo the shear, then neighbours are blended.

    Args:
        pixels: one plane per position of `planes`, ascending along the normal.

    Returns: float32[slices, rows, columns] and its affine; slices are the median spacing apart, the grid is
        as wide as all planes together, and what no image covers has the smallest value of them all.
    """
    normal = normal_of(planes.image_orientation_patient)
    positions = planes.positions_mm
    places = (positions - positions[0]) @ normal
    step = float(np.median(np.diff(places)))
    count = int(np.floor(places[-1] / step + 1e-3)) + 1
    # How far (rows, columns) each plane lies from the straight line along the normal, in pixels.
    along = in_plane(planes.image_orientation_patient, (1, 1))
    shifts = (positions - positions[0]) @ along / planes.pixel_spacing
    least = shifts.min(axis=0)
    shifts -= least
    more_rows, more_columns = np.ceil(shifts.max(axis=0) - NO_SHIFT_PIXELS).astype(int)
    rows, columns = planes.rows + int(more_rows), planes.columns + int(more_columns)
    fill = np.float32(min(float(plane.min()) for plane in pixels))
    voxels = np.empty((count, rows, columns), np.float32)
    for index in range(count):
        low, weight = _between(places, index * step)
        voxels[index] = shifted(pixels[low], shifts[low], (rows, columns), fill)
        if weight > 0:
            above = shifted(pixels[low + 1], shifts[low + 1], (rows, columns), fill)
            voxels[index] += np.float32(weight) * (above - voxels[index])
    origin = positions[0] + in_plane(planes.image_orientation_patient, planes.pixel_spacing) @ least
    return voxels, grid_affine(origin, normal * step, planes.image_orientation_patient, planes.pixel_spacing)


def shifted(plane: Plane, shift: NDArray[np.float64], shape: tuple[int, int], fill: np.float32) -> Plane:
    """`plane` moved by `shift` >= 0 (rows, columns, in pixels) within `shape`, linearly; `fill` elsewhere."""
    moved = np.full(shape, fill, np.float32)
    rows, columns = plane.shape
    row, column = (int(s + NO_SHIFT_PIXELS) for s in shift)
    moved[row : row + rows, column : column + columns] = plane
    for axis, rest in enumerate((shift[0] - row, shift[1] - column)):
        if rest > NO_SHIFT_PIXELS:
            along = moved.swapaxes(0, axis)
            along[1:] += np.float32(rest) * (along[:-1] - along[1:])
    return moved


def _between(places: NDArray[np.float64], place: float) -> tuple[int, float]:
    """The plane at or below `place`, and the weight of the one above it."""
    low = int(np.clip(np.searchsorted(places, place + 1e-6, side="right") - 1, 0, len(places) - 2))
    weight = float(np.clip((place - places[low]) / (places[low + 1] - places[low]), 0, 1))
    return (low + 1, 0.0) if weight > 1 - 1e-3 else (low, weight)

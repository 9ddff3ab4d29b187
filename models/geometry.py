"""Planes in patient space: where images lie, which way they face, and the grid that a stack of them forms."""

import numpy as np
from numpy.typing import NDArray

from models.values import Affine, SourcePlanes

Orientation = tuple[float, float, float, float, float, float]
"""Direction cosines along a row, then along a column (PS3.3 C.7.6.2.1.1)."""


def normal_of(orientation: Orientation) -> NDArray[np.float64]:
    """float64[3]: the unit normal of a plane, row x column cosines; for axial images, towards the head."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal), np.float64)


def in_plane(orientation: Orientation, pixel_spacing: tuple[float, float]) -> NDArray[np.float64]:
    """float64[3, 2]: the step in LPS mm to the next row, and to the next column."""
    row_mm, column_mm = pixel_spacing
    along_row, along_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    return np.stack([along_column * row_mm, along_row * column_mm], axis=1)


def grid_affine(
    origin_mm: NDArray[np.float64],
    slice_step_mm: NDArray[np.float64],
    orientation: Orientation,
    pixel_spacing: tuple[float, float],
) -> Affine:
    """The affine of planes that start at `origin_mm` and follow each other by `slice_step_mm` (both LPS)."""
    affine = np.eye(4)
    affine[:3, 0] = slice_step_mm
    affine[:3, 1:3] = in_plane(orientation, pixel_spacing)
    affine[:3, 3] = origin_mm
    return affine


def source_affine(source: SourcePlanes) -> Affine:
    """The affine of the source images as a grid; where they are not regular, that of their mean step."""
    positions = source.positions_mm
    step = (positions[-1] - positions[0]) / max(len(positions) - 1, 1)
    return grid_affine(positions[0], step, source.image_orientation_patient, source.pixel_spacing)

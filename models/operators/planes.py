"""The planes of the source images seen from another grid: what linear restoring walks over."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.geometry import source_affine
from models.values import Affine, SourcePlanes, Volume

STRAIGHT = 0.05
"""Voxels that an axis may drift sideways over the whole image and still count as parallel."""

Axes: TypeAlias = tuple[int, int, int]
"""Of a grid: across the planes, from row to row, from column to column."""
Positions: TypeAlias = NDArray[np.float64]


def planes_seen_from(affine: Affine, stacked: Volume) -> tuple[list[Affine], tuple[int, int]]:
    """For every plane of the source images (or slice, without them) where its pixels lie in another grid.

    affine: of that grid. Returns: float64[4, 3] each, (row, column, 1) -> voxel of the grid, homogeneous;
    and (rows, columns) of the planes.
    """
    inverse = np.linalg.inv(affine)
    if stacked.source is None:
        base = stacked.affine[:, [1, 2, 3]]
        step = stacked.affine[:, [0]] * np.array([[0.0, 0.0, 1.0]])
        planes = [base + number * step for number in range(stacked.shape[0])]
        return [inverse @ plane for plane in planes], stacked.shape[1:]
    source = stacked.source
    planes = [_plane_affine(source, number) for number in range(len(source.positions_mm))]
    return [inverse @ plane for plane in planes], (source.rows, source.columns)


def affine_of_planes(stacked: Volume) -> Affine:
    """The affine of a label map on those planes."""
    return stacked.affine if stacked.source is None else source_affine(stacked.source)


def straight_axes(to_grid: Affine, shape: tuple[int, int]) -> Axes | None:
    """Which axes of the grid run across a plane, with its rows and with its columns; None: at an angle."""
    linear = to_grid[:3, :2]
    row_axis, column_axis = int(np.abs(linear[:, 0]).argmax()), int(np.abs(linear[:, 1]).argmax())
    drift = np.abs(linear) * np.asarray(shape)
    drift[row_axis, 0] = drift[column_axis, 1] = 0.0
    if row_axis == column_axis or drift.max() > STRAIGHT:
        return None
    return 3 - row_axis - column_axis, row_axis, column_axis


def straight_positions(
    to_grid: Affine, axes: Axes, shape: tuple[int, int]
) -> tuple[Positions, Positions, Positions]:
    """Where a plane (one position), its rows and its columns lie along `axes`, in voxels of the grid."""
    start, (across, row_axis, column_axis) = to_grid[:3, 2], axes
    rows = start[row_axis] + to_grid[row_axis, 0] * np.arange(shape[0])
    columns = start[column_axis] + to_grid[column_axis, 1] * np.arange(shape[1])
    return start[across : across + 1], rows, columns


def positions_on(to_grid: Affine, shape: tuple[int, int]) -> Positions:
    """float64[3, rows, columns]: where the pixels of a plane at any angle lie, in voxels of the grid."""
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    where: Positions = np.tensordot(to_grid[:3, :2], np.stack([rows, columns]), axes=1)
    return where + to_grid[:3, 2][:, None, None]


def within(positions: Positions, size: int) -> NDArray[np.bool_]:
    """Which positions lie in a voxel of an axis of `size` voxels (edges have half a voxel around them)."""
    inside: NDArray[np.bool_] = (positions > -0.5 - 1e-6) & (positions < size - 0.5 + 1e-6)
    return inside


def part_within(positions: Positions, size: int) -> slice:
    """The same along a line, where they lie together: from the first to the last."""
    found = np.flatnonzero(within(positions, size))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def _plane_affine(source: SourcePlanes, number: int) -> Affine:
    along_row = np.asarray(source.image_orientation_patient[:3]) * source.pixel_spacing[1]
    along_column = np.asarray(source.image_orientation_patient[3:]) * source.pixel_spacing[0]
    plane = np.zeros((4, 3))
    plane[:3] = np.stack([along_column, along_row, source.positions_mm[number]], axis=1)
    plane[3, 2] = 1.0
    return plane

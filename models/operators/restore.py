"""Bring a label map back onto the planes of the source images, whatever was done to the grid in between."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.geometry import in_plane, source_affine
from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.values import Kind, LabelMap, SourcePlanes, Value, ValueType, Volume

DRIFT_VOXELS = 0.02
"""Axes count as parallel if over the whole plane they part by less than this share of a voxel."""

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreToSource(Operator):
    """LabelMap, and the Volume that `stack` gave -> LabelMap on the source images' planes, nearest voxel.

    Where the grids are flipped, permuted, cropped or shifted by whole voxels this is exact. Nothing lies
    outside the label map's grid. Planes are visited one at a time, at their true positions, so sheared and
    unevenly spaced series are right too.
    """

    name: ClassVar[str] = "restore"

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.LABEL_MAP, Kind.VOLUME)
        return ValueType(kind=Kind.LABEL_MAP, on_source_grid=True, segments=inputs[0].segments)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        label_map, stacked = value_of(inputs[0], LabelMap), value_of(inputs[1], Volume)
        source = stacked.source
        if source is None:
            raise KernelError("the volume to restore to is not what `stack` gave: it has no source planes")
        return LabelMap(
            labels=on_planes(label_map, source),
            affine=source_affine(source),
            segments=label_map.segments,
            source=source,
            notes=tuple(dict.fromkeys((*label_map.notes, *stacked.notes))),
        )


def on_planes(label_map: LabelMap, source: SourcePlanes) -> Labels:
    """uint8[planes, rows, columns]: the labels nearest to the source images' pixels. May share memory."""
    to_index = np.linalg.inv(label_map.affine)
    steps = to_index[:3, :3] @ in_plane(source.image_orientation_patient, source.pixel_spacing)
    starts = source.positions_mm @ to_index[:3, :3].T + to_index[:3, 3]
    shape = (len(source.positions_mm), source.rows, source.columns)
    axes = _parallel_axes(steps, (source.rows, source.columns))
    if axes is None:
        return _by_position(label_map.labels, steps, starts, shape)
    # Seen with its axes in the order (across the planes, along rows, along columns).
    labels, steps, starts = label_map.labels.transpose(axes), steps[list(axes)], starts[:, axes]
    if labels.shape == shape and _same_grid(steps, starts):
        return np.ascontiguousarray(labels)
    restored = np.zeros(shape, np.uint8)
    for plane, start in zip(restored, starts, strict=True):
        index = int(np.floor(start[0] + 0.5))
        if 0 <= index < labels.shape[0]:
            _copy_plane(labels[index], _line(start[1], steps[1, 0]), _line(start[2], steps[2, 1]), plane)
    return restored


class _Line(NamedTuple):
    """Indices along one axis: start, start + step, ... in voxels of the label map."""

    start: float
    step: float


def _line(start: float, step: float) -> _Line:
    return _Line(float(start), float(step))


def _parallel_axes(steps: NDArray[np.float64], size: tuple[int, int]) -> tuple[int, int, int] | None:
    """Which axis of the label map runs across the planes, which with their rows, which with their columns.

    steps: float64[3, 2], voxels of the label map per row and per column. None: the grids are oblique.
    """
    row_axis, column_axis = (int(axis) for axis in np.abs(steps).argmax(axis=0))
    if row_axis == column_axis:
        return None
    drift = np.abs(steps) * size
    drift[row_axis, 0] = drift[column_axis, 1] = 0
    return (3 - row_axis - column_axis, row_axis, column_axis) if drift.max() <= DRIFT_VOXELS else None


def _same_grid(steps: NDArray[np.float64], starts: NDArray[np.float64]) -> bool:
    ones = abs(steps[1, 0] - 1) < 1e-4 and abs(steps[2, 1] - 1) < 1e-4
    expected = np.zeros_like(starts)
    expected[:, 0] = np.arange(len(starts))
    return bool(ones and np.abs(starts - expected).max() < 0.25)


def _copy_plane(labels: Labels, rows: _Line, columns: _Line, plane: Labels) -> None:
    """plane[r, c] = the label nearest to (rows, columns) at (r, c), where there is one."""
    to_rows, from_rows = _nearest(rows, plane.shape[0], labels.shape[0])
    to_columns, from_columns = _nearest(columns, plane.shape[1], labels.shape[1])
    if isinstance(from_rows, slice) and isinstance(from_columns, slice):
        plane[to_rows, to_columns] = labels[from_rows, from_columns]
    else:
        some_rows = labels[from_rows]
        plane[to_rows, to_columns] = some_rows[:, from_columns]


def _nearest(line: _Line, count: int, size: int) -> tuple[slice, slice | NDArray[np.intp]]:
    """Where on the plane something lies, and which indices of the label map are nearest there."""
    indices = np.floor(line.start + line.step * np.arange(count) + 0.5).astype(np.intp)
    inside = np.flatnonzero((indices >= 0) & (indices < size))
    if not inside.size:
        return slice(0, 0), slice(0, 0)
    first, last = int(inside[0]), int(inside[-1])
    found = indices[first : last + 1]
    if abs(abs(line.step) - 1) * count < DRIFT_VOXELS:
        begin, end = int(found[0]), int(found[-1])
        if end - begin == last - first:
            return slice(first, last + 1), slice(begin, end + 1)
        if begin - end == last - first:
            return slice(first, last + 1), slice(begin, end - 1 if end else None, -1)
    return slice(first, last + 1), found


def _by_position(
    labels: Labels, steps: NDArray[np.float64], starts: NDArray[np.float64], shape: tuple[int, int, int]
) -> Labels:
    """Oblique grids: the index of every pixel of every plane."""
    restored = np.zeros(shape, np.uint8)
    rows = np.arange(shape[1], dtype=np.float64)[:, None]
    columns = np.arange(shape[2], dtype=np.float64)
    for plane, start in zip(restored, starts, strict=True):
        inside = np.ones(shape[1:], np.bool_)
        flat = np.zeros(shape[1:], np.intp)
        for axis, size in enumerate(labels.shape):
            along = start[axis] + steps[axis, 0] * rows + steps[axis, 1] * columns
            index = np.floor(along + 0.5).astype(np.intp)
            inside &= (index >= 0) & (index < size)
            flat *= size
            flat += index
        plane[inside] = labels.reshape(-1)[flat[inside]]
    return restored

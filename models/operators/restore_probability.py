"""Bring low-resolution probabilities to the source images' planes: linear first, labels last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.geometry import source_affine
from models.operators.argmax import likeliest
from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.linear import interpolated
from models.values import Affine, Kind, LabelMap, ProbabilityMap, SourcePlanes, Value, ValueType, Volume

STRAIGHT = 0.05
"""Voxels that an axis may drift sideways over the whole image and still count as parallel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreProbability(Operator):
    """ProbabilityMap, the stacked Volume -> LabelMap on the planes of the source images.

    Probabilities are interpolated linearly, plane by plane, and only then become labels: the likeliest class,
    or with one class where it is above `threshold`. Outside the probability map is background.
    """

    name: ClassVar[str] = "restore_probability"
    imports: ClassVar[tuple[str, ...]] = ("scipy.ndimage",)
    threshold: float = 0.5

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.PROBABILITY_MAP, Kind.VOLUME)
        return ValueType(kind=Kind.LABEL_MAP, on_source_grid=True, segments=inputs[0].segments)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given, stacked = value_of(inputs[0], ProbabilityMap), value_of(inputs[1], Volume)
        planes = _plane_affines(stacked)
        rows, columns = (stacked.source.rows, stacked.source.columns) if stacked.source else stacked.shape[1:]
        inverse = np.linalg.inv(given.affine)
        labels = np.zeros((len(planes), rows, columns), np.uint8)
        for number, plane in enumerate(planes):
            labels[number] = _labels_on(given.values, inverse @ plane, (rows, columns), self.threshold)
        return LabelMap(
            labels=labels,
            affine=stacked.affine if stacked.source is None else source_affine(stacked.source),
            segments=given.segments,
            source=stacked.source,
            notes=given.notes,
        )


def _plane_affines(stacked: Volume) -> list[Affine]:
    """For every source plane, float64[4, 3]: (row, column, 1) -> LPS mm, homogeneous."""
    if stacked.source is not None:
        return [_plane_affine(stacked.source, number) for number in range(len(stacked.source.positions_mm))]
    base = stacked.affine[:, [1, 2, 3]]
    step = stacked.affine[:, [0]] * np.array([[0.0, 0.0, 1.0]])
    return [base + number * step for number in range(stacked.shape[0])]


def _plane_affine(source: SourcePlanes, number: int) -> Affine:
    along_row = np.asarray(source.image_orientation_patient[:3]) * source.pixel_spacing[1]
    along_column = np.asarray(source.image_orientation_patient[3:]) * source.pixel_spacing[0]
    plane = np.zeros((4, 3))
    plane[:3] = np.stack([along_column, along_row, source.positions_mm[number]], axis=1)
    plane[3, 2] = 1.0
    return plane


def _labels_on(
    values: NDArray[np.float32], to_map: Affine, shape: tuple[int, int], threshold: float
) -> NDArray[np.uint8]:
    """uint8[rows, columns] of one plane. to_map: float64[4, 3], (row, column, 1) -> voxel of `values`."""
    linear, start = to_map[:3, :2], to_map[:3, 2]
    row_axis, column_axis = int(np.abs(linear[:, 0]).argmax()), int(np.abs(linear[:, 1]).argmax())
    drift = np.abs(linear) * np.asarray(shape)
    drift[row_axis, 0] = drift[column_axis, 1] = 0.0
    if row_axis == column_axis or drift.max() > STRAIGHT:
        return _labels_oblique(values, to_map, shape, threshold)
    through = 3 - row_axis - column_axis
    rows = start[row_axis] + linear[row_axis, 0] * np.arange(shape[0])
    columns = start[column_axis] + linear[column_axis, 1] * np.arange(shape[1])
    row_part, column_part = (
        _within(rows, values.shape[1 + row_axis]),
        _within(columns, values.shape[1 + column_axis]),
    )
    labels = np.zeros(shape, np.uint8)
    if not _within(start[through : through + 1], values.shape[1 + through]).any():
        return labels
    plane = interpolated(values, 1 + through, start[through : through + 1])
    plane = interpolated(plane, 1 + row_axis, rows[row_part])
    plane = interpolated(plane, 1 + column_axis, columns[column_part]).squeeze(1 + through)
    if row_axis > column_axis:
        plane = plane.swapaxes(1, 2)
    labels[np.ix_(row_part, column_part)] = likeliest(plane, threshold)
    return labels


def _within(positions: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """Which positions lie in a voxel of an axis of `size` voxels (edges have half a voxel around them)."""
    inside: NDArray[np.bool_] = (positions > -0.5 - 1e-6) & (positions < size - 0.5 + 1e-6)
    return inside


def _labels_oblique(
    values: NDArray[np.float32], to_map: Affine, shape: tuple[int, int], threshold: float
) -> NDArray[np.uint8]:
    """The same for a plane that cuts the voxels at an angle."""
    from scipy.ndimage import map_coordinates

    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    where = np.tensordot(to_map[:3, :2], np.stack([rows, columns]), axes=1) + to_map[:3, 2][:, None, None]
    inside = np.ones(shape, np.bool_)
    for positions, size in zip(where, values.shape[1:], strict=True):
        inside &= _within(positions, size)
    plane = np.stack([map_coordinates(value, where, order=1, mode="nearest") for value in values])
    return np.where(inside, likeliest(plane, threshold), 0).astype(np.uint8)

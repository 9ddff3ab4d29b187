"""Bring low-resolution probabilities to the source images' planes: linear first, labels last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.operators.argmax import likeliest
from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.planes import (
    Axes,
    affine_of_planes,
    part_within,
    planes_seen_from,
    positions_on,
    straight_axes,
    straight_positions,
    within,
)
from models.operators.upsample_argmax import ArgmaxUpsampler
from models.values import Affine, Kind, LabelMap, ProbabilityMap, Value, ValueType, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreProbability(Operator):
    """ProbabilityMap, the stacked Volume -> LabelMap on the planes of the source images.

    Probabilities are interpolated linearly, plane by plane, and only then become labels: the likeliest class,
    or with one class where it is above `threshold`. Outside the probability map is background. The classes
    never exist at full resolution: only those that can win somewhere in a block are interpolated there.
    """

    name: ClassVar[str] = "restore_probability"
    imports: ClassVar[tuple[str, ...]] = ("scipy.ndimage",)
    threshold: float = 0.5

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.PROBABILITY_MAP, Kind.VOLUME)
        return ValueType(kind=Kind.LABEL_MAP, on_source_grid=True, segments=inputs[0].segments)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given, stacked = value_of(inputs[0], ProbabilityMap), value_of(inputs[1], Volume)
        planes, shape = planes_seen_from(given.affine, stacked)
        return LabelMap(
            labels=labels_on_planes(given.values, planes, shape, self.threshold),
            affine=affine_of_planes(stacked),
            segments=given.segments,
            source=stacked.source,
            notes=given.notes,
        )


def labels_on_planes(
    values: NDArray[np.float32], planes: Sequence[Affine], shape: tuple[int, int], threshold: float
) -> NDArray[np.uint8]:
    """uint8[planes, rows, columns] of the likeliest class; 0 beyond the map.

    planes: for each, float64[4, 3], (row, column, 1) -> voxel of `values`, float32[classes, ...three axes].
    """
    labels = np.zeros((len(planes), *shape), np.uint8)
    straight: dict[Axes, list[int]] = {}
    for number, to_map in enumerate(planes):
        axes = straight_axes(to_map, shape)
        if axes is None:
            labels[number] = _labels_oblique(values, to_map, shape, threshold)
        else:
            straight.setdefault(axes, []).append(number)
    for axes, numbers in straight.items():
        upsampler = ArgmaxUpsampler(values, axes, threshold)
        sizes = [values.shape[1 + axis] for axis in axes]
        for number in sorted(numbers, key=lambda n: float(planes[n][axes[0], 2])):
            across, rows, columns = straight_positions(planes[number], axes, shape)
            if within(across, sizes[0]).any():
                row_part, column_part = part_within(rows, sizes[1]), part_within(columns, sizes[2])
                part = labels[number, row_part, column_part]
                upsampler.label(float(across[0]), rows[row_part], columns[column_part], part)
    return labels


def _labels_oblique(
    values: NDArray[np.float32], to_map: Affine, shape: tuple[int, int], threshold: float
) -> NDArray[np.uint8]:
    """The same for a plane that cuts the voxels at an angle."""
    from scipy.ndimage import map_coordinates

    where = positions_on(to_map, shape)
    inside = np.ones(shape, np.bool_)
    for positions, size in zip(where, values.shape[1:], strict=True):
        inside &= within(positions, size)
    plane = np.stack([map_coordinates(value, where, order=1, mode="nearest") for value in values])
    return np.where(inside, likeliest(plane, threshold), 0).astype(np.uint8)

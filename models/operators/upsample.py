"""Bring low-resolution class values to the source images' planes as they are: every class, linearly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.linear import interpolated
from models.operators.planes import (
    affine_of_planes,
    part_within,
    planes_seen_from,
    positions_on,
    straight_axes,
    straight_positions,
    within,
)
from models.values import Affine, Kind, ProbabilityMap, Value, ValueType, Volume

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsample(Operator):
    """ProbabilityMap, the stacked Volume -> ProbabilityMap on the planes of the source images, linear.

    Outside the map is background: 1 for class 0 and 0 for all others; 0 where there is one class. This holds
    every class at full resolution (7 GB for 105 classes of 64x512x512): where `argmax` is all that reads it,
    the planner puts `restore_probability` in the place of both.
    """

    name: ClassVar[str] = "upsample"
    imports: ClassVar[tuple[str, ...]] = ("scipy.ndimage",)

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.PROBABILITY_MAP, Kind.VOLUME)
        return ValueType(kind=Kind.PROBABILITY_MAP, on_source_grid=True, segments=inputs[0].segments)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given, stacked = value_of(inputs[0], ProbabilityMap), value_of(inputs[1], Volume)
        planes, shape = planes_seen_from(given.affine, stacked)
        values = np.zeros((len(given.values), len(planes), *shape), np.float32)
        if len(values) > 1:
            values[0] = 1
        for number, to_map in enumerate(planes):
            _fill(values[:, number], given.values, to_map)
        return ProbabilityMap(
            values=values,
            affine=affine_of_planes(stacked),
            segments=given.segments,
            notes=given.notes,
            source=stacked.source,
        )


def _fill(plane: Array, values: Array, to_map: Affine) -> None:
    """Write one plane, float32[classes, rows, columns]; what lies beyond `values` is left as it is."""
    shape = plane.shape[1], plane.shape[2]
    axes = straight_axes(to_map, shape)
    if axes is None:
        _fill_oblique(plane, values, to_map)
        return
    across, rows, columns = straight_positions(to_map, axes, shape)
    sizes = [values.shape[1 + axis] for axis in axes]
    if not within(across, sizes[0]).any():
        return
    row_part, column_part = part_within(rows, sizes[1]), part_within(columns, sizes[2])
    seen = values.transpose(0, *(1 + axis for axis in axes))
    seen = interpolated(interpolated(seen, 1, across), 2, rows[row_part])
    plane[:, row_part, column_part] = interpolated(seen, 3, columns[column_part])[:, 0]


def _fill_oblique(plane: Array, values: Array, to_map: Affine) -> None:
    from scipy.ndimage import map_coordinates

    where = positions_on(to_map, (plane.shape[1], plane.shape[2]))
    inside = np.ones(plane.shape[1:], np.bool_)
    for positions, size in zip(where, values.shape[1:], strict=True):
        inside &= within(positions, size)
    for target, value in zip(plane, values, strict=True):
        np.copyto(target, map_coordinates(value, where, order=1, mode="nearest"), where=inside)

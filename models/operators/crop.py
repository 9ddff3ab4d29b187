"""Cut a volume down to the box around a mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.grids import Shape, moved_affine
from models.operators.masks import bounding_box
from models.values import Affine, Kind, LabelMap, Value, ValueType, Volume, spacing_mm


@dataclass(frozen=True, slots=True, kw_only=True)
class CropTo(Operator):
    """Volume, LabelMap -> Volume within the label map's bounding box, which may lie on another grid.

    margin_mm: added on every side, as far as the volume goes. An empty mask leaves the volume whole.
    """

    name: ClassVar[str] = "crop_to"
    margin_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.margin_mm < 0:
            raise ValueError("margin_mm must be 0 or more")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME, Kind.LABEL_MAP)
        return ValueType(kind=Kind.VOLUME, unit=inputs[0].unit)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume, mask = value_of(inputs[0], Volume), value_of(inputs[1], LabelMap)
        starts, stops = crop_limits(mask, volume.affine, volume.shape, self.margin_mm)
        part = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
        origin = float(starts[0]), float(starts[1]), float(starts[2])
        return Volume(
            voxels=np.ascontiguousarray(volume.voxels[part]),
            affine=moved_affine(volume.affine, origin, (1.0, 1.0, 1.0)),
            unit=volume.unit,
            notes=volume.notes,
        )


def crop_limits(mask: LabelMap, affine: Affine, shape: Shape, margin_mm: float) -> tuple[Shape, Shape]:
    """First and one past the last voxel of a grid (affine, shape) that the mask's box and the margin reach.

    All of the grid if the mask is empty; at least one voxel along each axis.
    """
    box = bounding_box(mask.labels != 0)
    if box is None:
        return (0, 0, 0), shape
    sides = [(side.start - 0.5, side.stop - 0.5) for side in box]
    corners = np.array(np.meshgrid(*sides, [1.0], indexing="ij")).reshape(4, -1)
    there = (np.linalg.inv(affine) @ mask.affine @ corners)[:3]
    starts, stops = [], []
    for positions, spacing, size in zip(there, spacing_mm(affine), shape, strict=True):
        margin = margin_mm / spacing - 1e-3  # a thousandth of a voxel forgives the rounding of affines
        start = min(max(int(np.floor(positions.min() - margin + 0.5)), 0), size - 1)
        starts.append(start)
        stops.append(max(min(ceil(positions.max() + margin + 0.5), size), start + 1))
    return (starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2])

"""Resample a volume to another voxel size or matrix, by linear interpolation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.grids import Indices, Shape, Steps, moved_affine
from models.operators.linear import interpolated_grid
from models.values import Affine, Kind, Value, ValueType, Volume, spacing_mm


class Grid(NamedTuple):
    """Voxels at origin + index * step, in voxels of the volume that is resampled; affine: of this grid."""

    shape: Shape
    origin: Steps
    step: Steps
    affine: Affine

    def positions(self) -> Indices:
        """Fractional indices into the volume, one array for each axis."""
        slices, rows, columns = (
            start + width * np.arange(size, dtype=np.float64)
            for start, width, size in zip(self.origin, self.step, self.shape, strict=True)
        )
        return slices, rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Resample(Operator):
    """Volume -> Volume that covers the same box of space, with other voxels.

    spacing_mm: of (slices, rows, columns); 0 keeps an axis. The number of voxels is rounded, and the spacing
    then stretched to fit the box. in_plane: (rows, columns) of the result instead of their spacing.
    finer: `no` leaves an axis alone that is already coarser than asked.
    """

    name: ClassVar[str] = "resample"
    spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    in_plane: tuple[int, int] | None = None
    finer: Literal["yes", "no"] = "yes"

    def __post_init__(self) -> None:
        if min(self.spacing_mm) < 0:
            raise ValueError("spacing_mm must be 0 (keep) or more")
        if self.in_plane is not None and min(self.in_plane) < 1:
            raise ValueError("in_plane must be at least 1 by 1")
        if self.in_plane is not None and any(self.spacing_mm[1:]):
            raise ValueError("in_plane sets rows and columns, so spacing_mm must be 0 for both")
        if self.in_plane is None and not any(self.spacing_mm):
            raise ValueError("spacing_mm or in_plane must be given")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME)
        return ValueType(kind=Kind.VOLUME, unit=inputs[0].unit)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        grid = self.grid_on(volume.affine, volume.shape)
        return Volume(
            voxels=np.ascontiguousarray(interpolated_grid(volume.voxels, grid.positions())),
            affine=grid.affine,
            unit=volume.unit,
            notes=volume.notes,
        )

    def grid_on(self, affine: Affine, shape: Shape) -> Grid:
        """The grid of the result for a volume of this affine and shape."""
        target = self._shape(affine, shape)
        step = shape[0] / target[0], shape[1] / target[1], shape[2] / target[2]
        origin = (step[0] - 1) / 2, (step[1] - 1) / 2, (step[2] - 1) / 2
        return Grid(target, origin, step, moved_affine(affine, origin, step))

    def _shape(self, affine: Affine, shape: Shape) -> Shape:
        """(slices, rows, columns) of the result."""
        sizes = []
        for size, spacing, target in zip(shape, spacing_mm(affine), self.spacing_mm, strict=True):
            keep = target == 0 or (self.finer == "no" and spacing >= target)
            sizes.append(size if keep else max(round(size * spacing / target), 1))
        return (sizes[0], *self.in_plane) if self.in_plane else (sizes[0], sizes[1], sizes[2])

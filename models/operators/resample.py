"""Resample a volume to another voxel size or matrix, by linear interpolation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.grids import moved_affine
from models.operators.linear import interpolated_grid
from models.values import Kind, Value, ValueType, Volume


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
        slices, rows, columns = self._shape(volume)
        step = (
            volume.shape[0] / slices,
            volume.shape[1] / rows,
            volume.shape[2] / columns,
        )
        origin = (step[0] - 1) / 2, (step[1] - 1) / 2, (step[2] - 1) / 2
        positions = tuple(
            start + width * np.arange(size, dtype=np.float64)
            for start, width, size in zip(origin, step, (slices, rows, columns), strict=True)
        )
        return Volume(
            voxels=np.ascontiguousarray(interpolated_grid(volume.voxels, positions)),
            affine=moved_affine(volume.affine, origin, step),
            unit=volume.unit,
            notes=volume.notes,
        )

    def _shape(self, volume: Volume) -> tuple[int, int, int]:
        """(slices, rows, columns) of the result."""
        sizes = []
        for size, spacing, target in zip(volume.shape, volume.spacing_mm, self.spacing_mm, strict=True):
            keep = target == 0 or (self.finer == "no" and spacing >= target)
            sizes.append(size if keep else max(round(size * spacing / target), 1))
        return (sizes[0], *self.in_plane) if self.in_plane else (sizes[0], sizes[1], sizes[2])

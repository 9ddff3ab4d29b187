"""The part of a resampled volume that a mask needs: what the planner makes of a crop after a resampling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.crop import CropTo, crop_limits
from models.operators.edges import expect, value_of
from models.operators.grids import moved_affine
from models.operators.linear import interpolated_part
from models.operators.resample import Resample
from models.values import Kind, LabelMap, Value, ValueType, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class ResampleCropped(Operator):
    """Volume, LabelMap -> Volume: bit for bit `crop_to` of `resample`, without resampling what is cut away.

    The parameters are those of the two.
    """

    name: ClassVar[str] = "resample_cropped"
    spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    in_plane: tuple[int, int] | None = None
    finer: Literal["yes", "no"] = "yes"
    margin_mm: float = 0.0

    def __post_init__(self) -> None:
        self.resample()
        CropTo(margin_mm=self.margin_mm)

    def resample(self) -> Resample:
        """The first of the two. Raises: ValueError for parameters that it refuses."""
        return Resample(spacing_mm=self.spacing_mm, in_plane=self.in_plane, finer=self.finer)

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME, Kind.LABEL_MAP)
        return ValueType(kind=Kind.VOLUME, unit=inputs[0].unit)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume, mask = value_of(inputs[0], Volume), value_of(inputs[1], LabelMap)
        grid = self.resample().grid_on(volume.affine, volume.shape)
        starts, stops = crop_limits(mask, grid.affine, grid.shape, self.margin_mm)
        parts = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
        origin = float(starts[0]), float(starts[1]), float(starts[2])
        return Volume(
            voxels=np.ascontiguousarray(interpolated_part(volume.voxels, grid.positions(), parts)),
            affine=moved_affine(grid.affine, origin, (1.0, 1.0, 1.0)),
            unit=volume.unit,
            notes=volume.notes,
        )

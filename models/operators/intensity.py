"""Voxel by voxel: clip to a range of Hounsfield units, and scale to what a network was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, expect_unit, value_of
from models.values import HU, ONE, Kind, Value, ValueType, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Operator):
    """Volume in HU -> Volume in HU, every voxel moved into min_hu to max_hu."""

    name: ClassVar[str] = "clip"
    idempotent: ClassVar[bool] = True
    min_hu: float
    max_hu: float

    def __post_init__(self) -> None:
        if self.min_hu >= self.max_hu:
            raise ValueError("min_hu must be below max_hu")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME)
        expect_unit(inputs[0], HU)
        return inputs[0]

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        voxels = np.clip(volume.voxels, np.float32(self.min_hu), np.float32(self.max_hu))
        return Volume(
            voxels=voxels,
            affine=volume.affine,
            unit=volume.unit,
            source=volume.source,
            notes=volume.notes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalise(Operator):
    """Volume in any unit -> Volume without unit: (value - offset) * scale, in float32.

    offset is in the unit of the input, scale in its inverse: for HU in -1000 to 600 to become 0 to 1,
    offset -1000 and scale 1/1600 = 0.000625.
    """

    name: ClassVar[str] = "normalise"
    offset: float
    scale: float

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise ValueError("scale must not be 0, which would make every voxel alike")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME)
        return ValueType(kind=Kind.VOLUME, unit=ONE, on_source_grid=inputs[0].on_source_grid)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        voxels = volume.voxels - np.float32(self.offset)
        voxels *= np.float32(self.scale)
        return Volume(voxels=voxels, affine=volume.affine, unit=ONE, source=volume.source, notes=volume.notes)

"""Masks by Hounsfield units: one range, or two with connection between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.components import labelled
from models.operators.edges import expect, expect_same_grid, expect_unit, value_of
from models.operators.masks import Mask, bounding_box
from models.values import HU, Kind, LabelMap, Value, ValueType, Volume, voxel_volume_mm3


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold(Operator):
    """Volume in HU [, LabelMap to stay within] -> LabelMap of one segment: min_hu <= value <= max_hu."""

    name: ClassVar[str] = "threshold"
    min_hu: float | None = None
    max_hu: float | None = None
    segment: str = "mask"

    def __post_init__(self) -> None:
        if self.min_hu is None and self.max_hu is None:
            raise ValueError("min_hu or max_hu must be given")
        if self.min_hu is not None and self.max_hu is not None and self.min_hu >= self.max_hu:
            raise ValueError("min_hu must be below max_hu")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        return _mask_type(inputs, self.segment)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        mask = in_range(volume.voxels, self.min_hu, self.max_hu)
        return _mask_value(mask, inputs, self.segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hysteresis(Operator):
    """Volume in HU [, LabelMap to stay within] -> LabelMap: what is at least `low_hu` and connected to
    something of at least `high_hu` (neighbours share a face).

    min_core_ml: how much of a connected part must reach `high_hu`, in mL (0: one voxel).
    """

    name: ClassVar[str] = "hysteresis"
    imports: ClassVar[tuple[str, ...]] = ("scipy.ndimage",)
    low_hu: float
    high_hu: float
    min_core_ml: float = 0.0
    segment: str = "mask"

    def __post_init__(self) -> None:
        if self.low_hu >= self.high_hu:
            raise ValueError("low_hu must be below high_hu")
        if self.min_core_ml < 0:
            raise ValueError("min_core_ml must be 0 or more")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        return _mask_type(inputs, self.segment)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        low = volume.voxels >= np.float32(self.low_hu)
        if len(inputs) > 1:
            within = value_of(inputs[1], LabelMap)
            expect_same_grid(volume, within)
            low &= within.labels != 0
        mask = np.zeros(volume.shape, np.bool_)
        box = bounding_box(low)
        if box is not None:
            fewest = max(self.min_core_ml * 1000 / voxel_volume_mm3(volume.affine), 1)
            mask[box] = _with_core(low[box], volume.voxels[box] >= np.float32(self.high_hu), fewest)
        return _mask_value(mask, inputs, self.segment)


def _with_core(low: Mask, high: Mask, fewest: float) -> Mask:
    """The components of `low` with at least `fewest` voxels of `high`."""
    parts, count = labelled(low, 3)
    keep = np.bincount(parts[low & high], minlength=count + 1) >= fewest
    keep[0] = False
    return keep[parts]


def in_range(voxels: NDArray[np.float32], low: float | None, high: float | None) -> Mask:
    """bool of the same shape: low <= value <= high; None leaves a side open."""
    if low is None:
        return voxels <= np.float32(np.inf if high is None else high)
    mask = voxels >= np.float32(low)
    if high is not None:
        mask &= voxels <= np.float32(high)
    return mask


def _mask_type(inputs: Sequence[ValueType], segment: str) -> ValueType:
    expect(inputs, Kind.VOLUME, Kind.LABEL_MAP, optional=1)
    expect_unit(inputs[0], HU)
    return ValueType(kind=Kind.LABEL_MAP, on_source_grid=inputs[0].on_source_grid, segments=(segment,))


def _mask_value(mask: Mask, inputs: Sequence[Value], segment: str) -> LabelMap:
    volume = value_of(inputs[0], Volume)
    if len(inputs) > 1:
        within = value_of(inputs[1], LabelMap)
        expect_same_grid(volume, within)
        mask &= within.labels != 0
    return LabelMap(
        labels=mask.view(np.uint8),
        affine=volume.affine,
        segments=(segment,),
        source=volume.source,
        notes=volume.notes,
    )

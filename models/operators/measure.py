"""Numbers about segments: volumes, and statistics of the Hounsfield units inside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, expect_same_grid, expect_unit, value_of
from models.operators.masks import bounding_box
from models.values import (
    HU,
    Kind,
    LabelMap,
    Measurement,
    Measurements,
    Value,
    ValueType,
    Volume,
    voxel_volume_mm3,
)

Quantity = Literal["volume", "mean", "std", "minimum", "maximum", "median", "percentile15", "laa950"]
ML, PERCENT = "mL", "%"
"""UCUM units."""
EMPHYSEMA_HU = -950
"""Low-attenuation area below this (LAA-950): the density threshold for emphysema on inspiratory CT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure(Operator):
    """LabelMap, Volume in HU on the same grid -> Measurements, for every segment in the order given.

    quantities: volume (mL; 0 where nothing was found); mean, std, minimum, maximum, median,
    percentile15 (HU); laa950 (% of voxels below -950 HU). All but the volume are None for an empty segment.
    """

    name: ClassVar[str] = "measure"
    quantities: tuple[Quantity, ...]

    def __post_init__(self) -> None:
        if not self.quantities:
            raise ValueError("quantities must name at least one")
        if len(set(self.quantities)) < len(self.quantities):
            raise ValueError("quantities must not name one twice")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.LABEL_MAP, Kind.VOLUME)
        expect_unit(inputs[1], HU)
        return ValueType(kind=Kind.MEASUREMENTS, segments=inputs[0].segments)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        labels, volume = value_of(inputs[0], LabelMap), value_of(inputs[1], Volume)
        expect_same_grid(labels, volume)
        voxel_ml = voxel_volume_mm3(labels.affine) / 1000
        box = bounding_box(labels.labels != 0) or (slice(0, 0),) * 3
        numbers, inside = labels.labels[box], volume.voxels[box]
        items = []
        for label, segment in enumerate(labels.segments, start=1):
            values = inside[numbers == label]
            items += [_measured(segment, quantity, values, voxel_ml) for quantity in self.quantities]
        return Measurements(items=tuple(items), notes=labels.notes)


def _measured(segment: str, quantity: Quantity, values: NDArray[np.float32], voxel_ml: float) -> Measurement:
    """One number about float32[n] HU of a segment, rounded to what a reader can use (6 digits)."""
    if quantity == "volume":
        return Measurement(segment, quantity, _rounded(len(values) * voxel_ml), ML)
    unit = PERCENT if quantity == "laa950" else HU
    value = _rounded(_STATISTICS[quantity](values)) if len(values) else None
    return Measurement(segment, quantity, value, unit)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _laa950(values: NDArray[np.float32]) -> float:
    return 100.0 * int(np.count_nonzero(values < EMPHYSEMA_HU)) / len(values)


_STATISTICS: Mapping[str, Callable[[NDArray[np.float32]], float]] = {
    "mean": lambda values: float(values.mean(dtype=np.float64)),
    "std": lambda values: float(values.std(dtype=np.float64)),
    "minimum": lambda values: float(values.min()),
    "maximum": lambda values: float(values.max()),
    "median": lambda values: float(np.median(values)),
    "percentile15": lambda values: float(np.percentile(values, 15)),
    "laa950": _laa950,
}

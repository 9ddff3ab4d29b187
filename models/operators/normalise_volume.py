"""Scale a volume by its own numbers: its extremes, two quantiles, or mean and standard deviation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.statistics import Statistics, quantile_name
from models.values import ONE, Kind, Measurements, Value, ValueType, Volume

FLAT = 1e-5
"""A volume whose a and b are this close, relative to the larger, has no contrast but rounding: that of an
interpolation is 3e-7. No image is so flat; 12 bits alone are 2e-4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NormaliseVolume(Operator):
    """Volume in any unit -> Volume without unit: (value - a) / (b - a), by numbers over all voxels.

    by: `min_max`: a and b are the extremes; `quantiles`: the quantiles `low` and `high`; `z_score`: a is the
    mean and b - a the standard deviation. clip: move values into 0 to 1 (not with z_score). Where b is a
    (but for rounding) the result is 0 everywhere.
    """

    name: ClassVar[str] = "normalise_volume"
    by: Literal["min_max", "quantiles", "z_score"]
    low: float = 0.05
    high: float = 0.95
    clip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError("low must be below high, both in 0 to 1")
        if self.by != "quantiles" and (self.low, self.high) != (0.05, 0.95):
            raise ValueError("low and high belong to by: quantiles")
        if self.clip and self.by == "z_score":
            raise ValueError("clip has no use with by: z_score")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME)
        return ValueType(kind=Kind.VOLUME, unit=ONE, on_source_grid=inputs[0].on_source_grid)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        return self.given_statistics().apply([inputs[0], self.statistics().apply(inputs, context)], context)

    def statistics(self) -> Statistics:
        """The operator that gives the numbers this one needs."""
        match self.by:
            case "min_max":
                return Statistics(quantities=("min", "max"))
            case "quantiles":
                return Statistics(quantiles=(self.low, self.high))
            case "z_score":
                return Statistics(quantities=("mean", "std"))

    def given_statistics(self) -> "NormaliseWith":
        """The operator that does the rest."""
        return NormaliseWith(by=self.by, low=self.low, high=self.high, clip=self.clip)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormaliseWith(Operator):
    """Volume, Measurements that `statistics` gave -> Volume: as `normalise_volume` with the same settings.

    The statistics may be those of another volume: of the whole head, for a crop of it.
    """

    name: ClassVar[str] = "normalise_with"
    by: Literal["min_max", "quantiles", "z_score"]
    low: float = 0.05
    high: float = 0.95
    clip: bool = False

    def __post_init__(self) -> None:
        NormaliseVolume(by=self.by, low=self.low, high=self.high, clip=self.clip)  # refuses the same

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME, Kind.MEASUREMENTS)
        return ValueType(kind=Kind.VOLUME, unit=ONE, on_source_grid=inputs[0].on_source_grid)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        offset, width = self.offset_and_width(value_of(inputs[1], Measurements))
        return replace(volume, voxels=scaled(volume.voxels, offset, width, self.clip), unit=ONE)

    def offset_and_width(self, measured: Measurements) -> tuple[np.float32, np.float32]:
        """a and b - a, which is 0 if the volume is flat. Raises: KernelError if a number is missing."""
        numbers = {item.quantity: item.value for item in measured.items if item.segment == ""}
        wanted = {
            "min_max": ("min", "max"),
            "quantiles": (quantile_name(self.low), quantile_name(self.high)),
            "z_score": ("mean", "std"),
        }[self.by]
        first, second = (numbers.get(name) for name in wanted)
        if first is None or second is None:
            raise KernelError(f"the statistics lack {' or '.join(wanted)}")
        offset = np.float32(first)
        width = np.float32(second) if self.by == "z_score" else np.float32(second) - offset
        largest = max(abs(first), 0.0 if self.by == "z_score" else abs(second))
        return offset, width if width > np.float32(FLAT) * np.float32(largest) else np.float32(0)


def scaled(
    voxels: NDArray[np.float32], offset: np.float32, width: np.float32, clip: bool
) -> NDArray[np.float32]:
    """(voxels - offset) / width, in 0 to 1 if `clip`; 0 where width is 0."""
    if width == 0:
        return np.zeros_like(voxels)
    result = voxels - offset
    result /= width
    return np.clip(result, np.float32(0), np.float32(1), out=result) if clip else result

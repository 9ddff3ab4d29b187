"""Numbers over a whole volume, extremes, moments and quantiles: what MR volumes are normalised by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.values import Kind, Measurement, Measurements, Value, ValueType, Volume

Quantity: TypeAlias = Literal["min", "max", "mean", "std"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics(Operator):
    """Volume -> Measurements over all of its voxels (segment: empty), in the volume's unit.

    quantities: std is that of the population. quantiles: shares, 0 to 1, of the voxels below a value, which
    is interpolated between neighbours in order; the measurement is called `q0.05` and so on. A number does
    not depend on what else is asked for.
    """

    name: ClassVar[str] = "statistics"
    quantities: tuple[Quantity, ...] = ()
    quantiles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.quantities and not self.quantiles:
            raise ValueError("quantities or quantiles must be given")
        if any(not 0 <= share <= 1 for share in self.quantiles):
            raise ValueError("quantiles must lie in 0 to 1")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME)
        return ValueType(kind=Kind.MEASUREMENTS)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        names = (*self.quantities, *map(quantile_name, self.quantiles))
        numbers = [_moment(volume.voxels, quantity) for quantity in self.quantities]
        numbers += quantiles(volume.voxels, self.quantiles)
        items = tuple(
            Measurement("", name, number, volume.unit) for name, number in zip(names, numbers, strict=True)
        )
        return Measurements(items, volume.notes)


def quantile_name(share: float) -> str:
    """What the measurement of a quantile is called."""
    return f"q{share!r}"


def quantiles(voxels: NDArray[np.float32], shares: Sequence[float]) -> list[float]:
    """Float32 numbers, one for each share: linear between the two voxels next in order, as numpy does."""
    if not shares:
        return []
    places = [share * (voxels.size - 1) for share in shares]
    below = [int(place) for place in places]
    above = [min(rank + 1, voxels.size - 1) for rank in below]
    ordered = np.partition(voxels.reshape(-1), sorted({*below, *above}))
    return [
        float(np.float32(float(ordered[low]) + (place - low) * (float(ordered[high]) - float(ordered[low]))))
        for place, low, high in zip(places, below, above, strict=True)
    ]


def _moment(voxels: NDArray[np.float32], quantity: Quantity) -> float:
    """A float32 number. Sums are in float64, slice by slice, so that no copy of the volume is made."""
    if quantity == "min":
        return float(voxels.min())
    if quantity == "max":
        return float(voxels.max())
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in voxels) / voxels.size
    if quantity == "mean":
        return float(np.float32(mean))
    squares = sum(float(np.square(plane - mean, dtype=np.float64).sum()) for plane in voxels)
    return float(np.float32(np.sqrt(squares / voxels.size)))

"""Shrink a volume by whole factors: means of blocks, so noise falls and nothing is skipped."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.grids import moved_affine
from models.values import Kind, Value, ValueType, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink(Operator):
    """Volume -> Volume of block means, by the largest whole factors whose spacing stays within `spacing_mm`.

    spacing_mm: of (slices, rows, columns); an axis already coarser is left as it is. The last block of an
    axis is filled up with the last plane.
    """

    name: ClassVar[str] = "shrink"
    spacing_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0:
            raise ValueError("spacing_mm must be above 0")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.VOLUME)
        return ValueType(kind=Kind.VOLUME, unit=inputs[0].unit)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        slices, rows, columns = (
            max(int(target / spacing + 1e-6), 1)
            for target, spacing in zip(self.spacing_mm, volume.spacing_mm, strict=True)
        )
        origin = (slices - 1) / 2, (rows - 1) / 2, (columns - 1) / 2
        return Volume(
            voxels=block_means(volume.voxels, (slices, rows, columns)),
            affine=moved_affine(volume.affine, origin, (slices, rows, columns)),
            unit=volume.unit,
            notes=volume.notes,
        )


def block_means(voxels: NDArray[np.float32], factors: tuple[int, int, int]) -> NDArray[np.float32]:
    """float32[ceil(n / factor) along each axis]: the mean of each block of `factors` voxels."""
    shape = [ceil(size / factor) for size, factor in zip(voxels.shape, factors, strict=True)]
    total = np.zeros(shape, np.float32)
    for offsets in product(*(range(factor) for factor in factors)):
        part = voxels[tuple(slice(o, None, f) for o, f in zip(offsets, factors, strict=True))]
        _add_edge_filled(total, part, voxels, offsets, factors)
    total *= np.float32(1 / np.prod(factors))
    return total


def _add_edge_filled(
    total: NDArray[np.float32],
    part: NDArray[np.float32],
    voxels: NDArray[np.float32],
    offsets: tuple[int, ...],
    factors: tuple[int, int, int],
) -> None:
    """total += part; where `part` lacks the last plane of an axis, the last plane of `voxels` stands in."""
    if part.shape == total.shape:
        total += part
        return
    index = [
        np.minimum(np.arange(size) * factor + offset, limit - 1)
        for size, factor, offset, limit in zip(total.shape, factors, offsets, voxels.shape, strict=True)
    ]
    total += voxels[np.ix_(*index)]

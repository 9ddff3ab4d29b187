"""Dilate, erode, open and close each segment by a ball of a radius in mm (a disc per slice where asked).

The ball is cut into rows: dilation ORs row-dilated copies of the mask, shifted. That is exact, needs no
distance map, and lets other threads run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import floor, sqrt
from typing import ClassVar, Literal

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.operators.masks import Mask, box_around
from models.values import Kind, LabelMap, Value, ValueType

Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Morphology(Operator):
    """What the four have in common. LabelMap -> LabelMap on the same grid, with the same segments.

    radius_mm: of the ball; dimensions: 3 = ball, 2 = disc in each slice by itself.
    Segments never overlap: growth takes background only, the first segment first.
    """

    radius_mm: float
    dimensions: Literal[2, 3] = 3

    def __post_init__(self) -> None:
        if self.radius_mm <= 0:
            raise ValueError("radius_mm must be above 0")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.LABEL_MAP)
        return inputs[0]

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given = value_of(inputs[0], LabelMap)
        radii = self.radius_mm, given.spacing_mm, self.dimensions
        labels = np.zeros_like(given.labels)
        for label in range(1, len(given.segments) + 1):
            changed = self.change(given.labels == label, *radii)
            allowed = changed & (labels == 0) & ((given.labels == 0) | (given.labels == label))
            labels[allowed] = label
        return replace(given, labels=labels)

    def change(self, mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int) -> Mask:
        """The kernel on one segment."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Dilate(Morphology):
    """Grow by the radius."""

    name: ClassVar[str] = "dilate"

    def change(self, mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int) -> Mask:
        return dilated(mask, radius_mm, spacing_mm, dimensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erode(Morphology):
    """Shrink by the radius; the edge of the volume does not shrink anything."""

    name: ClassVar[str] = "erode"

    def change(self, mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int) -> Mask:
        return eroded(mask, radius_mm, spacing_mm, dimensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(Morphology):
    """Remove what the ball does not fit into."""

    name: ClassVar[str] = "open"

    def change(self, mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int) -> Mask:
        return opened(mask, radius_mm, spacing_mm, dimensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Morphology):
    """Fill gaps that the ball does not fit into."""

    name: ClassVar[str] = "close"

    def change(self, mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int) -> Mask:
        return closed(mask, radius_mm, spacing_mm, dimensions)


def dilated(mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int = 3) -> Mask:
    """Every voxel within `radius_mm` (centre to centre) of the mask. Outside the grid is background."""
    out = np.zeros_like(mask)
    box = box_around(mask, _reach(radius_mm, spacing_mm, dimensions))
    if box is not None:
        out[box] = _dilated_box(mask[box], radius_mm, spacing_mm, dimensions)
    return out


def eroded(mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int = 3) -> Mask:
    """Every voxel of the mask with no background within `radius_mm`. Outside the grid is not background."""
    out = np.zeros_like(mask)
    box = box_around(mask, _reach(radius_mm, spacing_mm, dimensions))
    if box is not None:
        out[box] = ~_dilated_box(~mask[box], radius_mm, spacing_mm, dimensions)
    return out


def opened(mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int = 3) -> Mask:
    """Erosion, then dilation: idempotent and never larger than the mask."""
    shrunk = eroded(mask, radius_mm, spacing_mm, dimensions)
    return dilated(shrunk, radius_mm, spacing_mm, dimensions) & mask


def closed(mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int = 3) -> Mask:
    """Dilation, then erosion, as if the grid went on around: idempotent and never smaller than the mask."""
    reach = _reach(radius_mm, spacing_mm, dimensions)
    box = box_around(mask, reach)
    if box is None:
        return mask.copy()
    padded = np.pad(mask[box], [(2 * steps, 2 * steps) for steps in reach])
    grown = _dilated_box(padded, radius_mm, spacing_mm, dimensions)
    shrunk = ~_dilated_box(~grown, radius_mm, spacing_mm, dimensions)
    inner = tuple(slice(2 * steps, shrunk.shape[axis] - 2 * steps) for axis, steps in enumerate(reach))
    out = mask.copy()
    out[box] |= shrunk[inner]
    return out


def _dilated_box(mask: Mask, radius_mm: float, spacing_mm: Spacing, dimensions: int) -> Mask:
    out = np.zeros_like(mask)
    run = mask.copy()
    reached = 0
    for half_width, shift in sorted(_runs(radius_mm, spacing_mm, dimensions)):
        while reached < half_width:
            reached += 1
            _or_shifted(run, mask, (0, 0, reached))
            _or_shifted(run, mask, (0, 0, -reached))
        _or_shifted(out, run, shift)
    return out


def _runs(
    radius_mm: float, spacing_mm: Spacing, dimensions: int
) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """The rows of the ball: (half length in columns, (slice shift, row shift, 0))."""
    slices, rows, _ = _reach(radius_mm, spacing_mm, dimensions)
    for slice_shift, row_shift in product(range(-slices, slices + 1), range(-rows, rows + 1)):
        rest = radius_mm**2 - (slice_shift * spacing_mm[0]) ** 2 - (row_shift * spacing_mm[1]) ** 2
        if rest >= -1e-9:
            yield floor(sqrt(max(rest, 0.0)) / spacing_mm[2] + 1e-9), (slice_shift, row_shift, 0)


def _reach(radius_mm: float, spacing_mm: Spacing, dimensions: int) -> tuple[int, int, int]:
    """How many voxels the ball reaches along each axis."""
    slices, rows, columns = (floor(radius_mm / spacing + 1e-9) for spacing in spacing_mm)
    return slices if dimensions == 3 else 0, rows, columns


def _or_shifted(out: Mask, mask: Mask, shift: tuple[int, int, int]) -> None:
    """out |= mask moved by `shift` voxels; what leaves the grid is lost."""
    to = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(shift, mask.shape, strict=True))
    origin = tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(shift, mask.shape, strict=True))
    if all(part.stop > part.start for part in to):
        np.logical_or(out[to], mask[origin], out=out[to])

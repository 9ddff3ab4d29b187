"""Bring a coarse label map to a finer grid, its border drawn anew by Hounsfield units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, expect_unit, value_of
from models.operators.grids import Indices, aligned_indices, nearest_on
from models.operators.masks import Mask, bounding_box
from models.operators.morphology import dilated, eroded
from models.operators.threshold import in_range
from models.values import HU, Kind, LabelMap, Value, ValueType, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Refine(Operator):
    """LabelMap on a coarse grid, Volume in HU on a fine one with the same axes -> LabelMap on the fine grid.

    Deeper than `band_mm` inside a segment everything belongs to it, farther than `outer_band_mm` outside
    nothing; between, what has min_hu <= value <= max_hu. The first segment has precedence.
    """

    name: ClassVar[str] = "refine"
    band_mm: float
    outer_band_mm: float | None = None
    min_hu: float | None = None
    max_hu: float | None = None

    def __post_init__(self) -> None:
        if self.band_mm <= 0:
            raise ValueError("band_mm must be above 0")
        if self.outer_band_mm is not None and self.outer_band_mm < 0:
            raise ValueError("outer_band_mm must be 0 or more")
        if self.min_hu is None and self.max_hu is None:
            raise ValueError("min_hu or max_hu must be given")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.LABEL_MAP, Kind.VOLUME)
        expect_unit(inputs[1], HU)
        return ValueType(
            kind=Kind.LABEL_MAP, on_source_grid=inputs[1].on_source_grid, segments=inputs[0].segments
        )

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        coarse, volume = value_of(inputs[0], LabelMap), value_of(inputs[1], Volume)
        indices = aligned_indices(volume.shape, volume.affine, coarse.affine)
        labels = np.zeros(volume.shape, np.uint8)
        taken = np.zeros(coarse.labels.shape, np.bool_)
        for label in range(1, len(coarse.segments) + 1):
            self._draw(label, coarse, volume, indices, taken, labels)
        return LabelMap(
            labels=labels,
            affine=volume.affine,
            segments=coarse.segments,
            source=volume.source,
            notes=coarse.notes,
        )

    def _draw(
        self,
        label: int,
        coarse: LabelMap,
        volume: Volume,
        indices: Indices,
        taken: Mask,
        labels: NDArray[np.uint8],
    ) -> None:
        """Draw one segment into `labels`; `taken` are coarse voxels of earlier ones."""
        mask = coarse.labels == label
        outer = self.band_mm if self.outer_band_mm is None else self.outer_band_mm
        possible = dilated(mask, outer, coarse.spacing_mm) & ~taken & ((coarse.labels == 0) | mask)
        sure = eroded(mask, self.band_mm, coarse.spacing_mm)
        np.logical_or(taken, possible, out=taken)
        box = bounding_box(possible)
        if box is None:
            return
        fine_box = tuple(
            slice(*np.searchsorted(positions, [side.start - 0.5, side.stop - 0.5]))
            for side, positions in zip(box, indices, strict=True)
        )
        within = tuple(positions[part] for positions, part in zip(indices, fine_box, strict=True))
        degree = nearest_on(possible.view(np.uint8) + sure.view(np.uint8), within)
        drawn = in_range(volume.voxels[fine_box], self.min_hu, self.max_hu)
        drawn &= degree == 1
        drawn |= degree == 2
        labels[fine_box][drawn] = label

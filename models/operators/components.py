"""Connected components of a mask: keep the largest, the large enough, or those that meet a second mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, expect_same_grid, value_of
from models.operators.masks import Mask, bounding_box
from models.values import Kind, LabelMap, Value, ValueType, voxel_volume_mm3


@dataclass(frozen=True, slots=True, kw_only=True)
class Components(Operator):
    """LabelMap [, LabelMap to meet] -> LabelMap, every segment by itself. Neighbours share a face.

    largest: keep at most this many, the largest first (0: all); min_volume_ml: of each;
    dimensions: 3, or 2 for components of each slice by itself; min_area_cm2: of each of those.
    min_overlap: with a second input, the share of a component's voxels (0 to 1) that must lie in it;
    0 asks for at least one voxel.
    """

    name: ClassVar[str] = "components"
    imports: ClassVar[tuple[str, ...]] = ("scipy.ndimage",)
    largest: int = 0
    min_volume_ml: float = 0.0
    min_area_cm2: float = 0.0
    dimensions: Literal[2, 3] = 3
    min_overlap: float = 0.0

    def __post_init__(self) -> None:
        if self.largest < 0:
            raise ValueError("largest must be 0 (all) or more")
        if self.min_volume_ml < 0:
            raise ValueError("min_volume_ml must be 0 or more")
        if self.min_area_cm2 < 0:
            raise ValueError("min_area_cm2 must be 0 or more")
        if self.dimensions == 2 and self.min_volume_ml:
            raise ValueError("min_volume_ml needs dimensions: 3")
        if self.dimensions == 3 and self.min_area_cm2:
            raise ValueError("min_area_cm2 needs dimensions: 2")
        if not 0 <= self.min_overlap <= 1:
            raise ValueError("min_overlap must lie in 0 to 1")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.LABEL_MAP, Kind.LABEL_MAP, optional=1)
        return inputs[0]

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given = value_of(inputs[0], LabelMap)
        labels = np.zeros_like(given.labels)
        box = bounding_box(given.labels != 0)
        if box is not None:
            other = None
            if len(inputs) > 1:
                meeting = value_of(inputs[1], LabelMap)
                expect_same_grid(given, meeting)
                other = meeting.labels[box] != 0
            inside, fewest = given.labels[box], self._fewest(given)
            for label in range(1, len(given.segments) + 1):
                labels[box] += np.uint8(label) * self._kept(inside == label, other, fewest)
        return replace(given, labels=labels)

    def _fewest(self, given: LabelMap) -> float:
        """How many voxels a component must have."""
        if self.dimensions == 3:
            return self.min_volume_ml * 1000 / voxel_volume_mm3(given.affine)
        _, row_mm, column_mm = given.spacing_mm
        return self.min_area_cm2 * 100 / (row_mm * column_mm)

    def _kept(self, mask: Mask, other: Mask | None, fewest: float) -> NDArray[np.uint8]:
        """1 where the component of a voxel is kept, else 0. `other`: the mask to meet, if any."""
        parts, count = labelled(mask, self.dimensions)
        sizes = np.bincount(parts[mask], minlength=count + 1)
        keep = sizes >= fewest - 1e-6
        if other is not None:
            shared = np.bincount(parts[mask & other], minlength=count + 1)
            keep &= shared >= np.maximum(self.min_overlap * sizes, 1)
        keep[0] = False
        if self.largest:
            order = np.argsort(-np.where(keep, sizes, 0), kind="stable")
            keep[order[self.largest :]] = False
        return keep.view(np.uint8)[parts]


def labelled(mask: NDArray[np.bool_], dimensions: int) -> tuple[NDArray[np.int32], int]:
    """Number the components 1, 2, ...: (int32 of the mask's shape with 0 for background, their count).

    dimensions: 3 = neighbours share a face; 2 = the same, but only within a slice.
    """
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(3, 1)
    if dimensions == 2:
        structure[[0, 2]] = False
    numbers = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask, structure, output=numbers)
    return numbers, int(count)

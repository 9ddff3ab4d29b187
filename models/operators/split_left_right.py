"""Tell the left lung from the right, by the patient's side, also where the two touch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.operators.components import labelled
from models.operators.edges import expect, expect_one_segment, expect_same_grid, value_of
from models.operators.masks import Mask, bounding_box
from models.operators.morphology import dilated, eroded
from models.values import Affine, Kind, LabelMap, Value, ValueType

LEFT, RIGHT = 1, 2
SMALLEST_LUNG = 0.1
"""Share of a component that must lie on either side for it to be taken as two lungs that touch; a guess
that held on the series we have (a lung crosses the midline with a few percent of its volume)."""
NECKS_MM = (1.5, 3.0, 4.5, 6.0, 8.0, 10.0, 13.0)
"""Radii tried, in order, to part two lungs that touch."""
APART_MM = 50.0
"""Two large components whose middles lie this far apart sideways are two lungs: adult lungs have 120 to
160 mm between their middles, two parts of one lung seldom 30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitLeftRight(Operator):
    """LabelMap of both lungs [, LabelMap of the body] -> LabelMap: 1 = left, 2 = right, of the patient.

    The side comes from the affine (LPS), so any orientation of the array is right. The midline lies
    between the two large components; where there is one only, in the middle of the body (without a body:
    of the mask). Lungs that touch are parted by the thinnest neck, and where there is none, at the midline.
    segments: the names of the two.
    """

    name: ClassVar[str] = "split_left_right"
    imports: ClassVar[tuple[str, ...]] = ("scipy.ndimage",)
    segments: tuple[str, str] = ("Left lung", "Right lung")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.LABEL_MAP, Kind.LABEL_MAP, optional=1)
        expect_one_segment(inputs[0])
        return ValueType(kind=Kind.LABEL_MAP, on_source_grid=inputs[0].on_source_grid, segments=self.segments)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given = value_of(inputs[0], LabelMap)
        body = value_of(inputs[-1], LabelMap)
        expect_same_grid(given, body)
        labels = np.zeros_like(given.labels)
        box = bounding_box(given.labels != 0)
        if box is not None:
            middle_mm = _middle_mm(body.labels != 0, given.affine)
            leftness = _leftness_mm(given.labels.shape, given.affine) - np.float32(middle_mm)
            labels[box] = split(given.labels[box] != 0, leftness[box], given.spacing_mm)
        return LabelMap(
            labels=labels,
            affine=given.affine,
            segments=self.segments,
            source=given.source,
            notes=given.notes,
        )


def split(
    mask: Mask, leftness_mm: NDArray[np.float32], spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """LEFT or RIGHT for each voxel of the mask, 0 elsewhere.

    leftness_mm: float32 of the mask's shape, mm to the patient's left of the midline.
    """
    parts, count = labelled(mask, 3)
    numbers = parts[mask]
    sizes = np.bincount(numbers, minlength=count + 1)
    leftness_mm = leftness_mm - _between_the_largest(numbers, sizes, leftness_mm[mask])
    share = np.bincount(numbers, leftness_mm[mask] > 0, minlength=count + 1) / np.maximum(sizes, 1)
    side = np.where(share > 0.5, LEFT, RIGHT).astype(np.uint8)
    side[0] = 0
    labels = side[parts]
    both = (share > SMALLEST_LUNG) & (share < 1 - SMALLEST_LUNG) & (sizes > SMALLEST_LUNG * mask.sum())
    for number in np.flatnonzero(both):
        part = parts == number
        labels[part] = _parted(part, leftness_mm, spacing_mm)[part]
    return labels


def _between_the_largest(
    numbers: NDArray[np.int32], sizes: NDArray[np.intp], leftness_mm: NDArray[np.float32]
) -> np.float32:
    """Where the middle between the two largest components lies, in mm to the left; 0 if they are no pair."""
    if len(sizes) < 3:
        return np.float32(0)
    middles = np.bincount(numbers, leftness_mm) / np.maximum(sizes, 1)
    second, first = np.argsort(sizes)[-2:]
    if sizes[second] < 2 * SMALLEST_LUNG * sizes[first] or abs(middles[first] - middles[second]) < APART_MM:
        return np.float32(0)
    return np.float32((middles[first] + middles[second]) / 2)


def _parted(
    part: Mask, leftness_mm: NDArray[np.float32], spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """One component as two lungs: eroded until it falls apart, then grown back from the two halves."""
    for radius_mm in NECKS_MM:
        seeds = _two_seeds(eroded(part, radius_mm, spacing_mm), int(part.sum()), leftness_mm)
        if seeds is not None:
            return _grown(seeds, part, leftness_mm, spacing_mm)
    return np.where(leftness_mm > 0, LEFT, RIGHT).astype(np.uint8)


def _two_seeds(core: Mask, whole: int, leftness_mm: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    """The components of an eroded lung pair by side; None while a large one still lies on both sides."""
    parts, count = labelled(core, 3)
    numbers = parts[core]
    sizes = np.bincount(numbers, minlength=count + 1)
    share = np.bincount(numbers, leftness_mm[core] > 0, minlength=count + 1) / np.maximum(sizes, 1)
    large = sizes > SMALLEST_LUNG / 2 * whole
    bridged = large & (share > SMALLEST_LUNG) & (share < 1 - SMALLEST_LUNG)
    if bridged.any() or not (large & (share > 0.5)).any() or not (large & (share <= 0.5)).any():
        return None
    side = np.where(share > 0.5, LEFT, RIGHT).astype(np.uint8)
    side[0] = 0
    return side[parts]


def _grown(
    seeds: NDArray[np.uint8],
    part: Mask,
    leftness_mm: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
) -> NDArray[np.uint8]:
    """Both seeds grown through `part` at the same pace, one voxel a step; what they do not reach, by side."""
    labels = seeds.copy()
    step_mm = max(spacing_mm)
    for _ in range(64):  # more steps than the widest neck asks for; then the side decides
        free = part & (labels == 0)
        if not free.any():
            break
        left = dilated(labels == LEFT, step_mm, spacing_mm) & free
        right = dilated(labels == RIGHT, step_mm, spacing_mm) & free
        if not (left.any() or right.any()):
            break
        contested = left & right
        labels[left] = LEFT
        labels[right] = RIGHT
        labels[contested] = np.where(leftness_mm[contested] > 0, LEFT, RIGHT)
    rest = part & (labels == 0)
    labels[rest] = np.where(leftness_mm[rest] > 0, LEFT, RIGHT)
    return labels


def _leftness_mm(shape: tuple[int, ...], affine: Affine) -> NDArray[np.float32]:
    """float32 of `shape`: the LPS x of every voxel in mm; grows towards the patient's left."""
    slices, rows, columns = (
        (affine[0, axis] * np.arange(size)).astype(np.float32) for axis, size in enumerate(shape)
    )
    leftness: NDArray[np.float32] = slices[:, None, None] + rows[:, None] + columns
    return leftness + np.float32(affine[0, 3])


def _middle_mm(mask: Mask, affine: Affine) -> float:
    """The LPS x of the mask's centre of mass, in mm; 0 for an empty mask."""
    total = int(np.count_nonzero(mask))
    if not total:
        return 0.0
    middle = float(affine[0, 3])
    for axis in range(3):
        profile = np.count_nonzero(mask, axis=tuple(other for other in range(3) if other != axis))
        middle += float(affine[0, axis]) * float(profile @ np.arange(len(profile))) / total
    return middle

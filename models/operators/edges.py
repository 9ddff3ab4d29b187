"""What every operator asks of its inputs: how many, of which kind, in which unit, on which grid."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from models.errors import KernelError, PipelineError
from models.values import HU, Affine, Kind, LabelMap, Measurements, ProbabilityMap, Value, ValueType, Volume

V = TypeVar("V", Volume, LabelMap, ProbabilityMap, Measurements)
GRID_TOLERANCE_MM = 1e-3
"""Two affines this close are one grid: far below a voxel, far above the rounding of decimal strings."""


def expect(inputs: Sequence[ValueType], *kinds: Kind, optional: int = 0) -> None:
    """Refuse inputs that are not of these kinds, in this order; the last `optional` may be left out.

    Raises: PipelineError with key `of`.
    """
    fewest = len(kinds) - optional
    if not fewest <= len(inputs) <= len(kinds):
        wanted = ", ".join(kinds)
        raise PipelineError(f"takes {_count(fewest, len(kinds))} ({wanted}), not {len(inputs)}", key="of")
    for position, (given, kind) in enumerate(zip(inputs, kinds, strict=False), start=1):
        if given.kind is not kind:
            raise PipelineError(f"input {position} must be a {kind}, not a {given}", key="of")


def expect_unit(given: ValueType, unit: str) -> None:
    """Refuse a volume in another unit (UCUM). Raises: PipelineError with key `of`."""
    if given.unit != unit:
        raise PipelineError(f"needs a volume in {_unit(unit)}, not in {_unit(given.unit)}", key="of")


def expect_one_segment(given: ValueType) -> None:
    """Refuse a label map known to have several segments. Raises: PipelineError with key `of`."""
    if len(given.segments) > 1:
        raise PipelineError(f"needs a mask of one segment, not of {len(given.segments)}", key="of")


def value_of(value: Value, kind: type[V]) -> V:
    """`value`, which the planner has checked to be of this class. Raises: KernelError if it is not."""
    if not isinstance(value, kind):
        raise KernelError(f"got a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def expect_same_grid(one: Volume | LabelMap, other: Volume | LabelMap) -> None:
    """Refuse values that do not share shape and affine. Raises: KernelError with both shapes."""
    shapes = shape_of(one), shape_of(other)
    if shapes[0] != shapes[1]:
        raise KernelError(f"inputs lie on different grids: {shapes[0]} and {shapes[1]} voxels")
    if not same_affine(one.affine, other.affine):
        raise KernelError("inputs have equal shapes, but lie at different places")


def same_affine(one: Affine, other: Affine) -> bool:
    """Whether the affines agree within GRID_TOLERANCE_MM for the first 512 voxels along each axis."""
    corners = np.array([[0, 0, 0, 1], [512, 0, 0, 1], [0, 512, 0, 1], [0, 0, 512, 1]], float).T
    return bool(np.abs((one - other) @ corners).max() <= GRID_TOLERANCE_MM)


def shape_of(value: Volume | LabelMap) -> tuple[int, int, int]:
    """(slices, rows, columns) of a volume or a label map."""
    array = value.voxels if isinstance(value, Volume) else value.labels
    slices, rows, columns = array.shape
    return slices, rows, columns


def _unit(unit: str) -> str:
    return {HU: "HU", "1": "no unit (normalised)", "": "an unknown unit"}.get(unit, unit)


def _count(fewest: int, most: int) -> str:
    return f"{most} input{'s' if most > 1 else ''}" if fewest == most else f"{fewest} to {most} inputs"

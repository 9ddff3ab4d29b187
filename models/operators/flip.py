"""The order of voxels reversed along axes; every voxel stays where it is in the patient."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from models.errors import PipelineError
from models.operators.base import KernelContext, Operator
from models.operators.edges import value_of
from models.operators.mirroring import AXES
from models.values import Affine, Kind, ProbabilityMap, Value, ValueType, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip(Operator):
    """Volume or ProbabilityMap -> the same kind, mirrored in memory, its affine with it.

    A network that sees a flipped volume sees a mirrored patient; flipping its result gives the first grid
    again.
    """

    name: ClassVar[str] = "flip"
    axes: tuple[Literal["slices", "rows", "columns"], ...]

    def __post_init__(self) -> None:
        if not self.axes or len(set(self.axes)) < len(self.axes):
            raise ValueError("axes must be one or more of slices, rows, columns, each once")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        if len(inputs) != 1 or inputs[0].kind not in (Kind.VOLUME, Kind.PROBABILITY_MAP):
            raise PipelineError("takes 1 input, a volume or a probability map", key="of")
        return ValueType(kind=inputs[0].kind, unit=inputs[0].unit, segments=inputs[0].segments)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        axes = tuple(AXES[axis] for axis in self.axes)
        if isinstance(inputs[0], ProbabilityMap):
            given = inputs[0]
            values = np.ascontiguousarray(np.flip(given.values, axes))
            return replace(given, values=values, affine=_flipped(given.affine, axes, given.values.shape))
        volume = value_of(inputs[0], Volume)
        voxels = np.ascontiguousarray(np.flip(volume.voxels, axes))
        affine = _flipped(volume.affine, axes, volume.voxels.shape)
        return Volume(voxels=voxels, affine=affine, unit=volume.unit, notes=volume.notes)


def _flipped(affine: Affine, axes: Sequence[int], shape: tuple[int, ...]) -> Affine:
    flipped = affine.copy()
    for axis in axes:
        flipped[:3, 3] += affine[:3, 3 + axis] * (shape[axis] - 1)
        flipped[:3, 3 + axis] = -affine[:3, 3 + axis]
    return flipped

"""Several voxel-by-voxel steps in one pass: what the planner makes of chains of clip and normalise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.edges import value_of
from models.operators.intensity import Clip, Normalise
from models.values import ONE, Value, ValueType, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseStep:
    """clip: numbers are (min_hu, max_hu); normalise: (offset, scale)."""

    op: Literal["clip", "normalise"]
    numbers: tuple[float, float]

    def operator(self) -> Clip | Normalise:
        """The operator that does this alone."""
        first, second = self.numbers
        if self.op == "clip":
            return Clip(min_hu=first, max_hu=second)
        return Normalise(offset=first, scale=second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise(Operator):
    """Volume -> Volume: the steps in order, slice by slice, so that a slice stays in the cache between them.

    Bit for bit what the steps give one after the other.
    """

    name: ClassVar[str] = "pointwise"
    steps: tuple[PointwiseStep, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps must not be empty")
        for step in self.steps:
            step.operator()

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        for step in self.steps:
            inputs = [step.operator().infer(inputs)]
        return inputs[0]

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        volume = value_of(inputs[0], Volume)
        voxels = np.empty(volume.shape, np.float32)
        for source, target in zip(volume.voxels, voxels, strict=True):
            np.copyto(target, source)
            for step in self.steps:
                first, second = (np.float32(number) for number in step.numbers)
                if step.op == "clip":
                    np.clip(target, first, second, out=target)
                else:
                    target -= first
                    target *= second
        scaled = any(step.op == "normalise" for step in self.steps)
        return replace(volume, voxels=voxels, unit=ONE if scaled else volume.unit)

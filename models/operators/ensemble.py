"""Several networks' opinions as one: the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.errors import KernelError, PipelineError
from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, same_affine, value_of
from models.values import Kind, ProbabilityMap, Value, ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble(Operator):
    """ProbabilityMaps of equal segments on one grid -> their mean.

    Where all come from `network` steps that differ in their networks only (the folds of a cross-validation),
    the planner makes them one step, which never holds more than one whole map.
    """

    name: ClassVar[str] = "ensemble"

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        if len(inputs) < 2:
            raise PipelineError("takes 2 or more probability maps", key="of")
        expect(inputs, *[Kind.PROBABILITY_MAP] * len(inputs))
        if len({given.segments for given in inputs}) > 1:
            raise PipelineError("the inputs have different segments", key="of")
        return ValueType(
            kind=Kind.PROBABILITY_MAP,
            on_source_grid=all(given.on_source_grid for given in inputs),
            segments=inputs[0].segments,
        )

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        maps = [value_of(given, ProbabilityMap) for given in inputs]
        first, share = maps[0], np.float32(len(maps))
        for other in maps[1:]:
            if other.values.shape != first.values.shape or not same_affine(other.affine, first.affine):
                raise KernelError("the maps of an ensemble have different classes or grids")
        total = first.values / share
        for other in maps[1:]:
            total += other.values / share
        notes = tuple(dict.fromkeys(note for given in maps for note in given.notes))
        return ProbabilityMap(values=total, affine=first.affine, segments=first.segments, notes=notes)

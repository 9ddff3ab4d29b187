"""Logits to probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from models.operators.base import KernelContext, Operator
from models.operators.edges import expect, value_of
from models.values import Kind, ProbabilityMap, Value, ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Operator):
    """ProbabilityMap of logits -> ProbabilityMap: softmax over the classes, or the logistic function of one.

    For what has to happen to logits before they are probabilities; a network that ends in logits is better
    told its `activation`. Order does not change, so before `argmax` it has no use.
    """

    name: ClassVar[str] = "softmax"

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.PROBABILITY_MAP)
        return inputs[0]

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        given = value_of(inputs[0], ProbabilityMap)
        values = given.values
        if len(values) == 1:
            with np.errstate(over="ignore"):  # 1 / (1 + inf) is the 0 it should be
                return replace(given, values=np.asarray(1 / (1 + np.exp(-values)), np.float32))
        powers = np.exp(values - values.max(axis=0))
        powers /= powers.sum(axis=0)
        return replace(given, values=powers)

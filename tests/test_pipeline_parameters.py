"""Plain values become the fields of an operator, or an error that names the key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import PipelineError
from models.operators.base import KernelContext, Operator
from models.operators.parameters import checked_fields
from models.values import Value, ValueType


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    value: str
    scheme: str = "SCT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Operator):
    name: ClassVar[str] = "sample"

    low: float
    count: int = 1
    label: str = ""
    mode: Literal["refuse", "resample"] = "refuse"
    spacing: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    deep: bool = False
    code: Code = Code(value="1")

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("count must be at least 1")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        return inputs[0]

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        return inputs[0]


def test_plain_values_become_an_operator() -> None:
    operator = Sample.from_parameters(
        {"low": 1, "spacing": [1, 2.5], "names": ["a", "b"], "mode": "resample", "code": {"value": "7"}}
    )
    assert operator == Sample(
        low=1.0, spacing=(1.0, 2.5), names=("a", "b"), mode="resample", code=Code(value="7")
    )
    assert type(operator.low) is float


@pytest.mark.parametrize(
    ("parameters", "key", "says"),
    [
        ({}, "low", "missing"),
        ({"low": 1, "hihg": 2}, "hihg", "known: low, count"),
        ({"low": "1"}, "low", "a number"),
        ({"low": True}, "low", "a number"),
        ({"low": float("nan")}, "low", "finite"),
        ({"low": 1, "count": 1.5}, "count", "whole number"),
        ({"low": 1, "count": True}, "count", "whole number"),
        ({"low": 1, "count": 0}, "count", "at least 1"),
        ({"low": 1, "label": 3}, "label", "a text"),
        ({"low": 1, "mode": "ignore"}, "mode", "one of refuse, resample"),
        ({"low": 1, "spacing": [1]}, "spacing", "2 items"),
        ({"low": 1, "names": "a"}, "names", "a list"),
        ({"low": 1, "names": ["a", 1]}, "names.1", "a text"),
        ({"low": 1, "deep": "yes"}, "deep", "true or false"),
        ({"low": 1, "code": {"value": 5}}, "code.value", "a text"),
        ({"low": 1, "code": 5}, "code", "a mapping"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_key(
    parameters: dict[str, Any], key: str, says: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        Sample.from_parameters(parameters)
    assert caught.value.key == key
    assert says in caught.value.message


@given(st.integers(-1000, 1000))
def test_an_int_where_a_float_is_meant_gives_the_same_operator(number: int) -> None:
    assert checked_fields(Sample, {"low": number}) == checked_fields(Sample, {"low": float(number)})

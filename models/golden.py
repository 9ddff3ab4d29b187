"""Golden cases: an input everybody can have, and what a pipeline must make of it.

The input is a seeded phantom, or a stored series (a folder while authored, a digest once compiled). In a
file and in a plan a case is the same mapping:

    phantom: {seed: 7, ...}
    expect: {OUTPUT: {dice: {SEGMENT: at least}, measurements: {NAME: {value, tolerance}}, label_map: FILE}}

NAME is the segment and the quantity, as in `Left lung volume`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.errors import PipelineError
from models.operators.parameters import checked_value

if TYPE_CHECKING:
    from models.phantom import PhantomSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedValue:
    """A number and how far from it a measurement may be, both in the measurement's unit."""

    value: float
    tolerance: float

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise ValueError("tolerance must not be below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedOutput:
    """What one output must be. dice: segment -> smallest allowed Dice against the truth (0 to 1).

    truth: which segments of a phantom together are one of ours; default: the one of the same name.
    label_map: a .npy file (later its digest), uint8[slices, rows, columns] in stacking order: the truth for
    a stored series. A phantom has its own truth.
    """

    output: str
    dice: tuple[tuple[str, float], ...] = ()
    measurements: tuple[tuple[str, ExpectedValue], ...] = ()
    truth: tuple[tuple[str, tuple[str, ...]], ...] = ()
    label_map: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """Exactly one of `phantom` and `input` (folder or digest of a series) is there."""

    phantom: "PhantomSpec | None" = None
    input: str | None = None
    expect: tuple[ExpectedOutput, ...] = ()

    @property
    def title(self) -> str:
        """A few words for tables: `phantom seed 7` or `series <digest>`."""
        return f"phantom seed {self.phantom.seed}" if self.phantom else f"series {self.input}"


def golden_case(fields: Mapping[str, Any]) -> GoldenCase:
    """The case in this mapping. Raises PipelineError with the dotted key of what is wrong."""
    for key in fields:
        if key not in ("phantom", "input", "expect"):
            raise PipelineError("is not a setting here (known: phantom, input, expect)", key=key)
    if ("phantom" in fields) == ("input" in fields):
        raise PipelineError("needs either `phantom` or `input`")
    expect = fields.get("expect")
    if not isinstance(expect, Mapping) or not expect:
        raise PipelineError("must say of at least one output what is expected", key="expect")
    expected = tuple(_expected_output(name, value) for name, value in expect.items())
    if "input" in fields:
        return GoldenCase(input=checked_value(str, fields["input"], "input"), expect=expected)
    from models.phantom import PhantomSpec

    return GoldenCase(phantom=checked_value(PhantomSpec, fields["phantom"], "phantom"), expect=expected)


def golden_fields(case: GoldenCase) -> dict[str, Any]:
    """The mapping that `golden_case` reads back to an equal case (JSON values)."""
    expect = {
        expected.output: {
            "dice": dict(expected.dice),
            "measurements": {name: dataclasses.asdict(value) for name, value in expected.measurements},
            **({"truth": {name: list(parts) for name, parts in expected.truth}} if expected.truth else {}),
            **({"label_map": expected.label_map} if expected.label_map else {}),
        }
        for expected in case.expect
    }
    if case.phantom is None:
        return {"input": case.input, "expect": expect}
    phantom = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(case.phantom).items()
    }
    return {"phantom": phantom, "expect": expect}


def _expected_output(output: str, fields: Any) -> ExpectedOutput:
    key = f"expect.{output}"
    if not isinstance(fields, Mapping):
        raise PipelineError("must be a mapping", key=key)
    for name in fields:
        if name not in _EXPECTED:
            raise PipelineError(f"is not a setting here (known: {', '.join(_EXPECTED)})", key=f"{key}.{name}")
    dice = _mapping(fields.get("dice", {}), f"{key}.dice")
    measurements = _mapping(fields.get("measurements", {}), f"{key}.measurements")
    return ExpectedOutput(
        output=output,
        dice=tuple((name, _fraction(value, f"{key}.dice.{name}")) for name, value in dice.items()),
        measurements=tuple(
            (name, checked_value(ExpectedValue, value, f"{key}.measurements.{name}"))
            for name, value in measurements.items()
        ),
        truth=tuple(
            (name, checked_value(tuple[str, ...], value, f"{key}.truth.{name}"))
            for name, value in _mapping(fields.get("truth", {}), f"{key}.truth").items()
        ),
        label_map=checked_value(str | None, fields.get("label_map"), f"{key}.label_map"),
    )


_EXPECTED = ("dice", "measurements", "truth", "label_map")


def _fraction(value: Any, key: str) -> float:
    number: float = checked_value(float, value, key)
    if not 0 <= number <= 1:
        raise PipelineError("must be between 0 and 1", key=key)
    return number


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PipelineError("must be a mapping", key=key)
    return value

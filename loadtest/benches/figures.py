"""What a benchmark says: figures with both sides, bars that hold or do not, and where it was measured."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from loadtest.report import said


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured quantity. ratio above 1 is always better for Lightbox; None without a baseline.

    spread: smallest and largest of the rounds, per side; samples: how many rounds.
    """

    lightbox: float
    baseline: float | None
    ratio: float | None
    unit: str
    lightbox_spread: tuple[float, float]
    baseline_spread: tuple[float, float] | None = None
    samples: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What was promised, what was measured, and whether it holds."""

    name: str
    required: str
    measured: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one benchmark gives to the runner. notes: sentences about how it was measured."""

    figures: Mapping[str, Figure]
    bars: Sequence[Bar]
    notes: Sequence[str] = field(default_factory=tuple)


def figure(
    lightbox: Sequence[float],
    baseline: Sequence[float] = (),
    *,
    unit: str,
    better: Literal["higher", "lower"],
    note: str = "",
) -> Figure:
    """The medians of both sides' rounds. Raises: ValueError without a round of Lightbox."""
    if not lightbox:
        raise ValueError("a figure needs at least one round")
    ours = statistics.median(lightbox)
    theirs = statistics.median(baseline) if baseline else None
    ratio = None
    if theirs is not None and ours > 0 and theirs > 0:
        ratio = ours / theirs if better == "higher" else theirs / ours
    return Figure(
        lightbox=ours,
        baseline=theirs,
        ratio=ratio,
        unit=unit,
        lightbox_spread=(min(lightbox), max(lightbox)),
        baseline_spread=(min(baseline), max(baseline)) if baseline else None,
        samples=len(lightbox),
        note=note,
    )


def at_least(name: str, measured: float, required: float, unit: str) -> Bar:
    """A bar that holds from `required` upwards."""
    return Bar(
        name=name,
        required=f">= {said(required)} {unit}".rstrip(),
        measured=f"{said(measured)} {unit}".rstrip(),
        holds=measured >= required,
    )


def at_most(name: str, measured: float, required: float, unit: str) -> Bar:
    """A bar that holds up to `required`."""
    return Bar(
        name=name,
        required=f"<= {said(required)} {unit}".rstrip(),
        measured=f"{said(measured)} {unit}".rstrip(),
        holds=measured <= required,
    )


def as_json(findings: Findings) -> dict[str, Any]:
    """`figures`, `bars` and `notes` as JSON holds them."""
    return {
        "figures": {key: asdict(item) for key, item in findings.figures.items()},
        "bars": [asdict(bar) for bar in findings.bars],
        "notes": list(findings.notes),
    }

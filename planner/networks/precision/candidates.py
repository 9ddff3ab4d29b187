"""Ways of running a network, what was found about each, and the ways chosen: values."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from planner.networks.building.lift import Lifted
from planner.networks.precision.gate import Gate, Verdict
from planner.networks.precision.layers import Level
from planner.networks.records import Engine, Precision


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate.

    levels: of each layer, in order of computation. method: how activations were calibrated, where any is
    int8. calibration, held_out: None where it was refused before. rounds_s: seconds of one run, in turn with
    fp32 onnxruntime (`baseline_rounds_s`); empty where it was not timed. took_s: to try it. folded: what the
    family lifts is folded into the filters, so that it computes one member alone.
    """

    engine: Engine
    precision: Precision
    levels: tuple[Level, ...]
    method: str = ""
    calibration: Verdict | None = None
    held_out: Verdict | None = None
    rounds_s: tuple[float, ...] = ()
    baseline_rounds_s: tuple[float, ...] = ()
    refused: str = ""
    took_s: float = 0.0
    folded: bool = False

    @property
    def passed(self) -> bool:
        return bool(self.calibration and self.calibration.passed and self.held_out and self.held_out.passed)

    @property
    def seconds(self) -> float | None:
        """Of one run: the least, as what else runs on the machine only adds. None where it was not timed."""
        return min(self.rounds_s, default=None)

    @property
    def baseline_seconds(self) -> float | None:
        """Of fp32 onnxruntime in the same rounds."""
        return min(self.baseline_rounds_s, default=None)

    @property
    def speed_up(self) -> float:
        """Over fp32 onnxruntime; 0 where it was not timed."""
        return self.baseline_seconds / self.seconds if self.seconds and self.baseline_seconds else 0.0


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """How far one layer alone at this level moves the borders between classes (of other outputs: all values),
    root mean square, relative to the outputs' spread."""

    layer: int
    level: Level
    error: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The fastest candidate that passed with these engines, ready to be stored as a build. Tensors that
    are not the structure's own are called p0, p1 ..."""

    tried: Tried
    stage: Lifted
    hints: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """choices: by engine set, `all` and `onnxruntime` (which every installation has). folded: the first of
    them for the planned network alone, where that is worth a build of its own."""

    gate: Gate
    threads: int
    layers: tuple[str, ...]
    tried: tuple[Tried, ...]
    sensitivities: tuple[Sensitivity, ...]
    choices: Mapping[str, Choice]
    notes: tuple[str, ...]
    took_s: float
    folded: Choice | None = None


def precision_of(levels: tuple[Level, ...]) -> Precision:
    """The word for a mixture of levels."""
    kinds = set(levels)
    if kinds <= {"fp32"}:
        return "fp32"
    return kinds.pop() if len(kinds) == 1 else "mixed"

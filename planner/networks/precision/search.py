"""Choose engine and precision: build candidates, measure them, and take the fastest that passes the gate."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from numpy.typing import NDArray

from models.engines.registry import engine_available
from models.errors import KernelError
from models.operators.base import NetworkSession
from planner.networks.building.build import plain
from planner.networks.building.lift import Lifted, lifted_structure
from planner.networks.precision.abilities import levels_of
from planner.networks.precision.candidates import (
    Choice,
    PrecisionPlan,
    Tried,
    precision_of,
)
from planner.networks.precision.cases import Case, Feed, as_cases, pieces
from planner.networks.precision.folding import Folding
from planner.networks.precision.gate import Gate
from planner.networks.precision.ladder import Rung
from planner.networks.precision.layers import Level
from planner.networks.precision.mixtures import Mixtures
from planner.networks.precision.trial import (
    NO_PRECISION_HINTS,
    Judged,
    LabelsOf,
    open_exact,
    seconds_in_turn,
    session_of,
)
from planner.networks.records import Engine
from planner.networks.structure import Structure

DEFAULT_GATE = Gate()
BUDGET_S = 300.0
"""Of one family, both engines together."""
ENGINES: tuple[Engine, ...] = ("onnxruntime", "openvino")

_PIECES = 4
"""Pieces of the calibration cases that ranges and filters' inputs are taken from."""
_ROUNDS = 3
_BASELINE = "baseline"
_LIKELY_ERROR = 0.005
"""Borders moved by this share of the outputs' spread pass on some real networks: looked at first."""
_WORTH = 0.9
"""int8 throughout must take less than this share of fp32's time, or the engine is not searched further."""

_CLEARLY = 0.75
"""On a piece of the input a level is faster for certain only below this share of another's time: where one
has passed that is not, the other is tried as well, and both are timed on a whole feed."""

_NOTHING = "no case shows any segment in fp32, so there is nothing to judge another way by"

Progress = Callable[[str], None]


def plan_precision(
    structure: Structure,
    tensors: Mapping[str, NDArray[Any]],
    *,
    calibration: Sequence[Case | Feed],
    held_out: Sequence[Case | Feed],
    labels: LabelsOf,
    lifted: Collection[str] = (),
    gate: Gate = DEFAULT_GATE,
    engines: Sequence[Engine] = ENGINES,
    budget_s: float = BUDGET_S,
    threads: int = 1,
    progress: Progress = lambda line: None,
) -> PrecisionPlan:
    """Choose how a family runs. fp32 onnxruntime is always a candidate, so no choice is slower than it.

    Args:
        tensors: the base's numbers.
        calibration, held_out: real inputs by the structure's names; a bare feed is a case of its own. The
            first set fits ranges and rounding and guides the search, both are judged.
        lifted: tensors that stay inputs of the stage.
        engines: those not installed are left out, and `notes` says so.
        budget_s: seconds after which no further candidate is begun; the last may run over.

    Where no case shows any segment there is nothing to judge by: then it is plain fp32, and `notes` says so.
    Equal measurements give an equal choice. Raises: ValueError without a case in either set, or for a case
    without a feed; KernelError where fp32 onnxruntime cannot run the network.
    """
    if not calibration or not held_out:
        raise ValueError("precision is planned on at least one calibration case and one held-out case")
    search = _Search(
        structure,
        tensors,
        lifted,
        as_cases(calibration, "calibration case"),
        as_cases(held_out, "held-out case"),
        labels,
        gate,
        threads,
        budget_s,
        progress,
    )
    return search.run(engines)


def judge_uniform(
    structure: Structure,
    tensors: Mapping[str, NDArray[Any]],
    engine: Engine,
    level: Level,
    *,
    calibration: Sequence[Case | Feed],
    labels: LabelsOf,
    gate: Gate = DEFAULT_GATE,
    threads: int = 1,
) -> Tried:
    """What the gate says of one level for every layer: what a planner without a search would have taken."""
    cases = as_cases(calibration, "calibration case")
    search = _Search(structure, tensors, (), cases, cases, labels, gate, threads, BUDGET_S, lambda line: None)
    return search.uniform(engine, level)


class _Search:
    def __init__(
        self,
        structure: Structure,
        tensors: Mapping[str, NDArray[Any]],
        lifted: Collection[str],
        calibration: Sequence[Case],
        held_out: Sequence[Case],
        labels: LabelsOf,
        gate: Gate,
        threads: int,
        budget_s: float,
        progress: Progress,
    ) -> None:
        self._began, self._budget_s = time.monotonic(), budget_s
        self._gate, self._threads, self._progress = gate, threads, progress
        self._stage: Lifted = lifted_structure(structure, tensors, lifted)
        self._fixed: Feed = {p.name: tensors[p.of].reshape(p.shape) for p in self._stage.parameters}
        self._exact = open_exact(plain(structure, tensors), threads)
        self._calibration = Judged(self._exact, self._fixed, labels, gate, calibration)
        self._held_out = Judged(self._exact, self._fixed, labels, gate, held_out)
        self._timed: Feed = held_out[0].feeds[0]
        self._pieces = pieces(structure, calibration, _PIECES)
        self._alone = partial(lifted_structure, structure, tensors)
        small = [{**feed, **self._fixed} for feed in self._pieces]
        self._mixtures = Mixtures(self._stage, small, threads, progress)
        self._tried: list[Tried] = []
        self._sessions: dict[int, NetworkSession] = {}
        """By place in `_tried`, of candidates that passed."""
        self._notes: list[str] = []

    def run(self, engines: Sequence[Engine]) -> PrecisionPlan:
        names = tuple(layer.name for layer in self._mixtures.layers)
        exact: tuple[Level, ...] = tuple("fp32" for _ in names)
        there: list[Engine] = []
        wanted: tuple[Engine, ...] = ("onnxruntime", *engines)
        for engine in dict.fromkeys(wanted):
            if engine_available(engine):
                there.append(engine)
            else:
                self._notes.append(f"{engine} is not installed here, so nothing was tried with it")
        judgeable = self._judgeable()
        if not judgeable:
            there = ["onnxruntime"]
        for engine in reversed(there):  # OpenVINO has more to give, and the time may be short
            if judgeable and names and engine in engines and not self._late():
                self._search(engine)
            if engine == "onnxruntime" or not any(t.passed for t in self._tried if t.engine == engine):
                self._try(engine, exact)
        self._time()
        choices = self._choices()
        folded = self._folded(choices)
        return PrecisionPlan(
            gate=self._gate,
            threads=self._threads,
            layers=names,
            tried=tuple(self._tried),
            sensitivities=tuple(self._mixtures.sensitivities),
            choices=choices,
            folded=folded,
            notes=tuple(self._notes),
            took_s=time.monotonic() - self._began,
        )

    def uniform(self, engine: Engine, level: Level) -> Tried:
        levels = tuple(level for _ in self._mixtures.layers)
        if not self._judgeable():
            return Tried(engine=engine, precision=precision_of(levels), levels=levels, refused=_NOTHING)
        return self._tried[self._try(engine, levels)]

    def _judgeable(self) -> bool:
        """Whether any case shows a segment; noted where the held-out ones do not. Raises: KernelError."""
        held_out = self._held_out.show_segments()
        if held_out or self._calibration.show_segments():
            if not held_out:
                self._notes.append("no held-out case shows a segment: they tell only that none is made up")
            return True
        self._notes.append(_NOTHING)
        return False

    def _search(self, engine: Engine) -> None:
        """The fastest level that passes for every layer; then mixtures that may be faster."""
        allowed = levels_of(engine)
        try:
            seconds = self._mixtures.uniform_seconds(engine, allowed)
            allowed = tuple(level for level in allowed if seconds[level] < _WORTH * seconds["fp32"])
            if not allowed:
                worse = ", ".join(f"{level} {s:.3f} s" for level, s in seconds.items())
                self._notes.append(f"{engine}: no level is worth it on a piece of the input ({worse})")
                return
            limit = seconds["fp32"]
            for level in sorted(allowed, key=lambda level: seconds[level]):
                if limit < _CLEARLY * seconds[level]:
                    break
                place = self._try(engine, tuple(level for _ in self._mixtures.layers))
                if self._tried[place].passed:
                    limit = min(limit, seconds[level])
            if limit > min(seconds.values()) and not self._late():
                rungs = self._mixtures.rungs(engine, allowed, seconds, self._late)
                self._climb(engine, [rung for rung in rungs if rung.seconds < limit])
        except KernelError as error:
            self._notes.append(f"{engine}: {error}")

    def _climb(self, engine: Engine, rungs: Sequence[Rung]) -> None:
        """The lowest rung that passes both sets, by bisection."""
        known = {tried.levels for tried in self._tried if tried.engine == engine}
        rungs = [rung for rung in rungs if rung.levels not in known]
        low, high = 0, len(rungs)
        probes = [n for n, rung in enumerate(rungs) if rung.error <= _LIKELY_ERROR][:1]
        passed: dict[int, int] = {}
        while low < high and not self._late():
            probe = probes.pop(0) if probes else (low + high) // 2
            if not low <= probe < high:
                continue
            place = self._try(engine, rungs[probe].levels, rungs[probe], finish=False)
            if self._tried[place].calibration is not None and not self._tried[place].refused:
                passed[probe], high = place, probe
            else:
                low = probe + 1
        if self._late():
            self._notes.append(f"{engine}: the budget of {self._budget_s:.0f} s ended the search")
        for probe in range(high, len(rungs)):
            if probe in passed:
                self._finish(passed[probe])
            elif not self._late():
                passed[probe] = self._try(engine, rungs[probe].levels, rungs[probe])
            if probe in passed and self._tried[passed[probe]].passed:
                return

    def _try(
        self, engine: Engine, levels: tuple[Level, ...], rung: Rung | None = None, *, finish: bool = True
    ) -> int:
        """Judge a candidate on the calibration cases, then (`finish`) on the held-out ones. Its place."""
        began = time.monotonic()
        tried = Tried(engine=engine, precision=precision_of(levels), levels=levels)
        said = f"{engine} {tried.precision}" + (f", predicted error {rung.error:.4f}" if rung else "")
        place = len(self._tried)
        self._tried.append(tried)
        try:
            session = session_of(self._mixtures.lowered(engine, levels), engine, self._threads)
            verdict = self._calibration.verdict(session)
        except KernelError as error:
            self._replace(place, refused=f"{engine} cannot run it: {error}")
            return place
        self._replace(
            place,
            method=self._mixtures.method(engine) if "int8" in levels else "",
            calibration=verdict,
            refused="" if verdict.passed else "; ".join(verdict.failures[:3]),
            took_s=time.monotonic() - began,
        )
        dice = f"Dice least {verdict.least_dice:.4f}, mean {verdict.mean_dice:.4f}"
        self._progress(f"{said}: {'passes' if verdict.passed else 'refused'}, {dice}")
        if verdict.passed:
            self._sessions[place] = session
            if finish:
                self._finish(place)
        return place

    def _finish(self, place: int) -> bool:
        """Judge on the held-out cases what passed on the others."""
        began, tried = time.monotonic(), self._tried[place]
        verdict = self._held_out.verdict(self._sessions[place])
        self._replace(
            place,
            held_out=verdict,
            refused="" if verdict.passed else "; ".join(verdict.failures[:3]),
            took_s=tried.took_s + time.monotonic() - began,
        )
        self._progress(
            f"{tried.engine} {tried.precision}: held-out {'passes' if verdict.passed else 'refused'}"
        )
        return verdict.passed

    def _time(self) -> None:
        """Those that passed, in turn with fp32 onnxruntime on a held-out feed; all of them ran it before."""
        places = [place for place, tried in enumerate(self._tried) if tried.passed]
        runs: dict[str, Callable[[], object]] = {_BASELINE: partial(self._exact.run, self._timed)}
        for place in places:
            tried = self._tried[place]
            if self._fixed or tried.engine != "onnxruntime" or tried.precision != "fp32":
                runs[str(place)] = partial(self._sessions[place].run, {**self._timed, **self._fixed})
        taken = seconds_in_turn(runs, _ROUNDS)
        for place in places:
            own = taken.get(str(place), taken[_BASELINE])  # with nothing lifted it is the baseline itself
            self._replace(place, rounds_s=tuple(own), baseline_rounds_s=tuple(taken[_BASELINE]))
        self._sessions.clear()
        for place, tried in enumerate(self._tried):
            if not tried.passed and not tried.refused:
                self._replace(place, refused="held-out cases were not computed: a faster mixture passed")

    def _choices(self) -> dict[str, Choice]:
        choices = {}
        for name, of in (("all", ENGINES), ("onnxruntime", ENGINES[:1])):
            ready = [tried for tried in self._tried if tried.passed and tried.engine in of]
            if ready:
                best = min(ready, key=lambda tried: min(tried.rounds_s))
                stage = self._mixtures.lowered(best.engine, best.levels)
                choices[name] = Choice(best, stage, NO_PRECISION_HINTS[best.engine])
        return choices

    def _folded(self, choices: Mapping[str, Choice]) -> Choice | None:
        """The first choice for this network alone, if that is worth it. In fp32 it never is."""
        best = choices.get("all")
        if best is None or best.tried.precision == "fp32" or self._late():
            return None
        folding = Folding(
            stage=self._alone(),
            pieces=self._pieces,
            calibration=self._calibration,
            held_out=self._held_out,
            timed=self._timed,
            parameters=self._fixed,
            exact=self._exact,
            threads=self._threads,
            progress=self._progress,
        )
        if not folding.may_pay:
            return None
        tried, choice = folding.tried(best)
        self._tried.append(tried)
        return choice

    def _late(self) -> bool:
        return time.monotonic() - self._began > self._budget_s

    def _replace(self, place: int, **changes: Any) -> None:
        self._tried[place] = msgspec.structs.replace(self._tried[place], **changes)

"""A family's stage at any mixture of levels: numbers rounded once, sensitivities and times measured once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from planner.networks.building.lift import Lifted
from planner.networks.precision.bias_correction import boundary_shift
from planner.networks.precision.calibrate import METHODS, Calibration, Method, Seen, calibrate
from planner.networks.precision.candidates import Sensitivity
from planner.networks.precision.cases import Feed
from planner.networks.precision.ladder import Rung, ladder
from planner.networks.precision.layers import Layer, Level, layers_of, multiplications
from planner.networks.precision.lower import lowered, quantised_values
from planner.networks.precision.quantise import Numbers, numbers_of
from planner.networks.precision.rounding import Feedback, feedback
from planner.networks.precision.trial import Borders, borders_of, error_of, seconds_in_turn, session_of
from planner.networks.records import Engine

_ROUNDS, _QUICK_ROUNDS = 2, 10
_QUICK_S = 0.5
"""Levels that take less than this together are measured QUICK_ROUNDS times more: short runs scatter."""
_SETTLING = 2
"""Pieces on which the last bias is settled."""


class Mixtures:
    """feeds: pieces of the calibration cases, parameters included; errors are measured on the first."""

    def __init__(
        self, stage: Lifted, feeds: Sequence[Feed], threads: int, progress: Callable[[str], None]
    ) -> None:
        self._stage, self._feeds, self._threads, self._progress = stage, feeds, threads, progress
        self.layers: tuple[Layer, ...] = layers_of(stage)
        self.sensitivities: list[Sensitivity] = []
        self._calibration: Calibration | None = None
        self._methods: dict[Engine, Method] = {}
        self._numbers: dict[tuple[str, Level, Method], Numbers] = {}
        self._errors: dict[tuple[int, Level], float] = {}
        self._known: dict[str, Feedback | None] = {}
        self._borders: list[Borders | None] | None = None
        self._outputs: list[list[NDArray[Any]]] = []
        self._stages: dict[tuple[Engine, tuple[Level, ...]], Lifted] = {}

    def lowered(self, engine: Engine, levels: Sequence[Level]) -> Lifted:
        """The stage with its layers at these levels. Raises: KernelError."""
        if all(level == "fp32" for level in levels):
            return self._stage
        key = (engine, tuple(levels))
        if key not in self._stages:
            method = self.method(engine) if "int8" in levels else METHODS[0]
            self._stages[key] = self._settled(engine, levels, method)
        return self._stages[key]

    def method(self, engine: Engine) -> Method:
        """How ranges are taken: by what moves the outputs least where every layer is int8."""
        if engine not in self._methods:
            errors = {}
            for method in METHODS:
                errors[method] = self._error(engine, self._lowered(engine, self._all("int8"), method))
                self._progress(f"{engine} int8 throughout by {method}: outputs move by {errors[method]:.4f}")
            self._methods[engine] = min(METHODS, key=lambda method: errors[method])
        return self._methods[engine]

    def uniform_seconds(self, engine: Engine, levels: Sequence[Level]) -> dict[Level, float]:
        """Of one run on the first piece, all layers at fp32 and at each of `levels`. Raises: KernelError."""
        runs: dict[str, Callable[[], object]] = {}
        for level in ("fp32", *levels):
            stage = self._stage if level == "fp32" else self._lowered(engine, self._all(level), METHODS[0])
            session = session_of(stage, engine, self._threads)
            runs[level] = partial(session.run, self._feeds[0])
        for run in runs.values():
            run()
        taken = seconds_in_turn(runs, 1)
        rounds = _ROUNDS if sum(sum(one) for one in taken.values()) > _QUICK_S else _QUICK_ROUNDS
        for said, more in seconds_in_turn(runs, rounds).items():
            taken[said] += more
        return {level: min(taken[level]) for level in ("fp32", *levels)}

    def rungs(
        self,
        engine: Engine,
        levels: Sequence[Level],
        seconds: Mapping[Level, float],
        late: Callable[[], bool],
    ) -> tuple[Rung, ...]:
        """Mixtures of fp32 and `levels`, fastest first. seconds: see `uniform_seconds`; a layer's share of
        them is its share of multiplications. Layers whose sensitivity there was no time to measure
        stay fp32."""
        places = self._calibrated().places
        work = [multiplications(layer, places[layer.name]) for layer in self.layers]
        errors: list[dict[Level, float]] = [{"fp32": 0.0} for _ in self.layers]
        for level in levels:
            for number, known in enumerate(errors):
                if late() and (number, level) not in self._errors:
                    continue
                error = self._sensitivity(engine, number, level)
                if error is not None:
                    known[level] = error
        costs = [
            {level: seconds[level] * part / sum(work) for level in known}
            for known, part in zip(errors, work, strict=True)
        ]
        return ladder(errors, costs)

    def _sensitivity(self, engine: Engine, number: int, level: Level) -> float | None:
        """None where the engine cannot run this layer at this level."""
        if (number, level) not in self._errors:
            alone: list[Level] = ["fp32"] * len(self.layers)
            alone[number] = level
            try:
                method = self.method(engine) if level == "int8" else METHODS[0]
                error = self._error(engine, self._lowered(engine, alone, method))
            except KernelError:
                return None
            self._errors[number, level] = error
            self.sensitivities.append(Sensitivity(layer=number, level=level, error=error))
            self._progress(
                f"layer {number + 1} of {len(self.layers)} in {level}: outputs move by {error:.4f}"
            )
        return self._errors[number, level]

    def _lowered(
        self, engine: Engine, levels: Sequence[Level], method: Method, last: NDArray[np.float32] | None = None
    ) -> Lifted:
        """last: what is added to the last layer's bias."""
        calibration = self._calibrated()
        ranges = {name: seen.range(method) for name, seen in self._ranged(engine, levels, calibration)}
        at = {layer.name: level for layer, level in zip(self.layers, levels, strict=True)}
        numbers: dict[tuple[str, Level], Numbers] = {}
        for layer in self.layers:
            if (level := at[layer.name]) != "fp32":
                key = (layer.name, level, method if level == "int8" else METHODS[0])
                if key not in self._numbers:
                    self._numbers[key] = numbers_of(
                        layer, level, calibration, self._feedback(layer, calibration), ranges
                    )
                numbers[layer.name, level] = self._numbers[key]
        if last is not None:
            layer, level = self.layers[-1], levels[-1]
            own = numbers.get((layer.name, level), Numbers(layer.filter, layer.bias))
            numbers[layer.name, level] = replace(own, bias=own.bias + last)
        return lowered(self._stage, self.layers, at, numbers, ranges, engine)

    def _feedback(self, layer: Layer, calibration: Calibration) -> Feedback | None:
        if layer.name not in self._known:
            patches = calibration.patches.get(layer.name)
            self._known[layer.name] = None if patches is None else feedback(patches)
        return self._known[layer.name]

    def _settled(self, engine: Engine, levels: Sequence[Level], method: Method) -> Lifted:
        """The last bias makes up for what all layers together move the borders between classes by, where the
        last layer gives the network's one output."""
        stage = self._lowered(engine, levels, method)
        if [port.name for port in stage.structure.outputs] != [self.layers[-1].name]:
            return stage
        exact, session = self._exact(), session_of(stage, engine, self._threads)
        found = [session.run(feed)[0] for feed in self._feeds[:_SETTLING]]
        return self._lowered(engine, levels, method, boundary_shift([run[0] for run in exact], found))

    def _ranged(
        self, engine: Engine, levels: Sequence[Level], calibration: Calibration
    ) -> Iterator[tuple[str, Seen]]:
        """What int8 layers among these levels read or give, with what was seen there."""
        int8 = frozenset(
            layer.name for layer, level in zip(self.layers, levels, strict=True) if level == "int8"
        )
        for name in sorted(quantised_values(self._stage, self.layers, int8, engine)):
            yield name, calibration.values[name]

    def _calibrated(self) -> Calibration:
        if self._calibration is None:
            every = frozenset(layer.name for layer in self.layers)
            names = sorted(quantised_values(self._stage, self.layers, every, "onnxruntime"))
            # what one engine quantises is among what the other does
            self._calibration = calibrate(self._stage, self.layers, names, self._feeds, self._progress)
        return self._calibration

    def _error(self, engine: Engine, stage: Lifted) -> float:
        """How far the stage moves borders between classes, or, of other outputs, all values."""
        outputs = session_of(stage, engine, self._threads).run(self._feeds[0])
        exact = self._exact()[0]
        if self._borders is None:
            self._borders = [borders_of(output) for output in exact]
        return max(
            error_of([ours], [theirs]) if borders is None else borders.moved(ours)
            for ours, theirs, borders in zip(outputs, exact, self._borders, strict=True)
        )

    def _exact(self) -> list[list[NDArray[Any]]]:
        """Outputs of the first pieces by fp32 onnxruntime."""
        if not self._outputs:
            session = session_of(self._stage, "onnxruntime", self._threads)
            self._outputs = [session.run(feed) for feed in self._feeds[:_SETTLING]]
        return self._outputs

    def _all(self, level: Level) -> tuple[Level, ...]:
        return (level,) * len(self.layers)

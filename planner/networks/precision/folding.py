"""A member's numbers folded into the filters of a build of its own, where its family's build is slower.

What a family lifts becomes a step of its own behind each filter: nothing to notice in fp32, a fifth of the
time of a small network in int8, whose convolutions then give fp32. A member in steady use may be worth the
memory of its own session; all others stay on the family's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec.structs import replace
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.base import NetworkSession
from planner.networks.building.lift import Lifted
from planner.networks.precision.candidates import Choice, Tried
from planner.networks.precision.cases import Feed
from planner.networks.precision.mixtures import Mixtures
from planner.networks.precision.trial import Judged, seconds_in_turn, session_of

WORTH = 0.9
"""Of the lifted build's time: folded must take less."""
MOST_BYTES = 16 << 20
"""Of a network's numbers in fp32 (a guess): a larger one's own session costs more memory than it is worth."""
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Folding:
    """One network to fold. stage: with nothing lifted; pieces: what it is calibrated on, without parameters.

    calibration, held_out: judge stages with parameters; timed: what is timed; parameters: this network's;
    exact: in fp32 onnxruntime.
    """

    stage: Lifted
    pieces: tuple[Feed, ...]
    calibration: Judged
    held_out: Judged
    timed: Feed
    parameters: Feed
    exact: NetworkSession
    threads: int
    progress: Callable[[str], None]

    @property
    def may_pay(self) -> bool:
        """Whether there is anything to fold, in a network small enough."""
        return bool(self.parameters) and _bytes(self.stage.tensors) <= MOST_BYTES

    def tried(self, choice: Choice) -> tuple[Tried, Choice | None]:
        """The choice's levels on the folded stage, judged and timed in turn with it; the second if it is
        worth it."""
        engine, levels = choice.tried.engine, choice.tried.levels
        tried = Tried(engine=engine, precision=choice.tried.precision, levels=levels, folded=True)
        self.progress("folding what the family lifts into filters of its own")
        try:
            mixtures = Mixtures(self.stage, self.pieces, self.threads, self.progress)
            stage = mixtures.lowered(engine, levels)
            session = session_of(stage, engine, self.threads)
            verdicts = [
                cases.without_parameters().verdict(session) for cases in (self.calibration, self.held_out)
            ]
        except KernelError as error:
            return replace(tried, refused=f"{engine} cannot run it: {error}"), None
        tried = replace(
            tried,
            method=mixtures.method(engine) if "int8" in levels else "",
            calibration=verdicts[0],
            held_out=verdicts[1],
            refused="; ".join(failure for verdict in verdicts for failure in verdict.failures[:3]),
        )
        if not tried.passed:
            return tried, None
        own, lifted, exact = self._times(session, session_of(choice.stage, engine, self.threads))
        tried = replace(tried, rounds_s=tuple(own), baseline_rounds_s=tuple(exact))
        share = min(own) / min(lifted)
        self.progress(f"{engine} {tried.precision}, folded into filters of its own: {share:.2f} of the time")
        if share >= WORTH:
            return tried, None
        return tried, Choice(tried, stage, choice.hints)

    def _times(
        self, folded: NetworkSession, lifted: NetworkSession
    ) -> tuple[list[float], list[float], list[float]]:
        runs: Mapping[str, Callable[[], object]] = {
            "folded": partial(folded.run, self.timed),
            "lifted": partial(lifted.run, {**self.timed, **self.parameters}),
            "exact": partial(self.exact.run, self.timed),
        }
        seconds_in_turn(runs, 1)
        taken = seconds_in_turn(runs, _ROUNDS)
        return taken["folded"], taken["lifted"], taken["exact"]


def _bytes(tensors: Mapping[str, NDArray[Any]]) -> int:
    return sum(array.nbytes for array in tensors.values())

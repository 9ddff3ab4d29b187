"""What a choice of engine and precision is worth, found anew: its labels and its time against the file's own.

The other side is plain fp32 onnxruntime on the file as published, with as many threads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from numpy.typing import NDArray

from loadtest.benches.real_networks import RealNetwork
from models.engines.onnxruntime import OnnxSession
from models.operators.base import NetworkSession
from planner.networks.precision.candidates import Choice, PrecisionPlan
from planner.networks.precision.cases import Feed
from planner.networks.precision.gate import Labels, Verdict, judge
from planner.networks.precision.trial import seconds_in_turn, session_of

SLOW_S = 3.0
"""A round of all sides that takes longer is measured ROUNDS times; others scatter more: QUICK_ROUNDS."""
ROUNDS, QUICK_ROUNDS = 3, 9
_FILE = "file"
LIFTED = "lifted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found of one choice. rounds_s, file_rounds_s: seconds of all held-out feeds one after the
    other, in turn."""

    choice: Choice
    calibration: Verdict
    held_out: Verdict
    rounds_s: tuple[float, ...]
    file_rounds_s: tuple[float, ...]

    @property
    def passed(self) -> bool:
        return self.calibration.passed and self.held_out.passed

    @property
    def gain(self) -> float:
        """Of medians."""
        return median(self.file_rounds_s) / median(self.rounds_s)

    @property
    def left_as_it_was(self) -> bool:
        """Whether it runs in fp32 onnxruntime as the file does."""
        return self.choice.tried.engine == "onnxruntime" and self.choice.tried.precision == "fp32"


def found_anew(network: RealNetwork, plan: PrecisionPlan) -> dict[str, Found]:
    """Judge and time every choice of a plan in sessions of their own. By engine set, as in the plan.

    Where the network's own numbers are worth folding, `all` is that build, and LIFTED the family's.
    """
    file = _AsPublished(network, plan.threads)
    halves = (network.calibration, network.held_out)
    theirs = [[network.labels(file.run(feed)) for feed in case.feeds] for case in halves]
    choices = _choices(plan)
    judged = {which: _judged(network, choice, plan, theirs) for which, choice in choices.items()}
    runs: dict[str, Callable[[], object]] = {_FILE: partial(_over, file.run, network)}
    runs |= {which: partial(_over, run, network) for which, (run, _, _) in judged.items()}
    seconds = seconds_in_turn(runs, 1)  # each ran every feed when it was judged
    rounds = ROUNDS if sum(sum(taken) for taken in seconds.values()) > SLOW_S else QUICK_ROUNDS
    for side, taken in seconds_in_turn(runs, rounds - 1).items():
        seconds[side] += taken
    return {
        which: Found(
            choice=choices[which],
            calibration=calibration,
            held_out=held_out,
            rounds_s=tuple(seconds[which]),
            file_rounds_s=tuple(seconds[_FILE]),
        )
        for which, (_, calibration, held_out) in judged.items()
    }


def _choices(plan: PrecisionPlan) -> Mapping[str, Choice]:
    if plan.folded is None:
        return plan.choices
    return {**plan.choices, LIFTED: plan.choices["all"], "all": plan.folded}


class _AsPublished:
    """The file, fed by the names its author gave."""

    def __init__(self, network: RealNetwork, threads: int) -> None:
        self._names = network.opened.input_names
        self._session = OnnxSession(network.file.read_bytes(), threads=threads)

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        fed = {name: feed[f"x{place}"] for place, name in enumerate(self._names)}
        return list(self._session.run(fed))


def _judged(
    network: RealNetwork, choice: Choice, plan: PrecisionPlan, theirs: Sequence[Sequence[Labels]]
) -> tuple[Callable[[Feed], list[NDArray[Any]]], Verdict, Verdict]:
    """How to run the choice, and what the gate says of both halves. theirs: the file's labels of each."""
    session = session_of(choice.stage, choice.tried.engine, plan.threads)
    own = {p.name: network.opened.tensors[p.of].reshape(p.shape) for p in choice.stage.parameters}
    run = partial(_with, session, own)
    one, other = (
        judge(case.name, labels, [network.labels(run(feed)) for feed in case.feeds], plan.gate)
        for case, labels in zip((network.calibration, network.held_out), theirs, strict=True)
    )
    return run, one, other


def _with(session: NetworkSession, own: Mapping[str, NDArray[Any]], feed: Feed) -> list[NDArray[Any]]:
    return list(session.run({**feed, **own}))


def _over(run: Callable[[Feed], object], network: RealNetwork) -> None:
    for feed in network.held_out.feeds:
        run(feed)

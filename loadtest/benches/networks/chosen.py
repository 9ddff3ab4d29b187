"""What a choice of engine and precision is worth as it is served: its labels and its time against the file's.

The other side is plain fp32 onnxruntime on the file as published, with as many threads.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loadtest.benches.networks.agreement import Agreement, agreement
from loadtest.benches.networks.real_families import RANDOM, inputs_of
from loadtest.benches.networks.served import served
from loadtest.benches.real_networks import RealNetwork
from models.engines.onnxruntime import OnnxSession
from object_store.opening import open_store
from planner.networks.precision.candidates import PrecisionPlan, Tried
from planner.networks.precision.cases import Case, Feed
from planner.networks.precision.gate import Labels, Verdict, judge
from planner.networks.precision.trial import seconds_in_turn

Run: TypeAlias = Callable[[Feed], list[NDArray[Any]]]

MEASURED_S = 20.0
"""About so long all sides are timed in turn, but for LEAST_ROUNDS at least and MOST_ROUNDS at most."""
LEAST_ROUNDS, MOST_ROUNDS = 3, 25
GATED, PIECES, NUMBERS = "what the gate judged", "pieces of the image", "normal numbers"
"""What labels are compared on."""
_FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found of one choice. rounds_s, file_rounds_s: seconds of all held-out feeds one after the
    other, in turn. agreements: with the file's labels; empty where it runs as the file does.
    """

    tried: Tried
    calibration: Verdict
    held_out: Verdict
    rounds_s: tuple[float, ...]
    file_rounds_s: tuple[float, ...]
    agreements: Mapping[str, Agreement]

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
        return as_published(self.tried)


def as_published(tried: Tried) -> bool:
    """Whether this is how the file itself runs."""
    return tried.engine == "onnxruntime" and tried.precision == "fp32"


def found_anew(network: RealNetwork, plan: PrecisionPlan) -> dict[str, Found]:
    """Judge and time what was chosen, stored and loaded as it is served. By engine set, see `served`."""
    asked = _Asked(network, plan)
    file = _file_session(network, plan.threads)
    theirs = asked.labels(file)
    with tempfile.TemporaryDirectory(prefix="bench-chosen-") as folder, open_store(Path(folder)) as store:
        sides = served(store, network, plan)
        ours = {which: asked.labels(side.session.run) for which, side in sides.items()}
        runs: dict[str, Callable[[], object]] = {_FILE: partial(_over, file, network.held_out)}
        runs |= {which: partial(_over, side.session.run, network.held_out) for which, side in sides.items()}
        seconds = _seconds(runs)
    return {
        which: asked.found(side.tried, theirs, ours[which], seconds[which], seconds[_FILE])
        for which, side in sides.items()
    }


class _Asked:
    """What both sides are asked: the gate's two cases, then pieces of the image, then normal numbers."""

    def __init__(self, network: RealNetwork, plan: PrecisionPlan) -> None:
        self._network, self._gate = network, plan.gate
        fed = [{"x0": one} for one in inputs_of(network)]
        cases = (network.calibration.feeds, network.held_out.feeds, fed[RANDOM:], fed[:RANDOM])
        self._feeds = [feed for case in cases for feed in case]
        ends = np.cumsum([len(case) for case in cases]).tolist()
        self._calibration, self._held_out, self._pieces, self._numbers = (
            slice(start, end) for start, end in pairwise((0, *ends))
        )

    def labels(self, run: Run) -> list[Labels]:
        """Of everything in its order."""
        return [self._network.labels(run(feed)) for feed in self._feeds]

    def found(
        self,
        tried: Tried,
        theirs: Sequence[Labels],
        ours: Sequence[Labels],
        rounds_s: Sequence[float],
        file_rounds_s: Sequence[float],
    ) -> Found:
        def judged(case: Case, part: slice) -> Verdict:
            return judge(case.name, theirs[part], ours[part], self._gate)

        compared = {
            GATED: slice(0, self._held_out.stop),
            PIECES: self._pieces,
            NUMBERS: self._numbers,
        }
        return Found(
            tried=tried,
            calibration=judged(self._network.calibration, self._calibration),
            held_out=judged(self._network.held_out, self._held_out),
            rounds_s=tuple(rounds_s),
            file_rounds_s=tuple(file_rounds_s),
            agreements={
                name: agreement(theirs[part], ours[part], self._gate)
                for name, part in compared.items()
                if not as_published(tried)
            },
        )


def _file_session(network: RealNetwork, threads: int) -> Run:
    """The file as published, fed by the names its author gave."""
    session = OnnxSession(network.file.read_bytes(), threads=threads)
    names = network.opened.input_names
    return lambda feed: list(session.run({name: feed[f"x{place}"] for place, name in enumerate(names)}))


def _over(run: Run, case: Case) -> None:
    for feed in case.feeds:
        run(feed)


def _seconds(runs: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """In turn. Each side ran every feed when its labels were taken; the sizes of batches that it is timed on
    are compiled once more, as it was fed others since."""
    seconds_in_turn(runs, 1)
    seconds = seconds_in_turn(runs, 1)
    rounds = int(MEASURED_S / sum(sum(taken) for taken in seconds.values()))
    for side, taken in seconds_in_turn(runs, min(max(rounds, LEAST_ROUNDS), MOST_ROUNDS) - 1).items():
        seconds[side] += taken
    return seconds

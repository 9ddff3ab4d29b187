"""Run one candidate: against the gate, and against the clock in turn with fp32 onnxruntime."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.engines.registry import open_session
from models.operators.base import NetworkSession
from planner.networks.building.build import EngineGraph, engine_graph
from planner.networks.building.lift import Lifted
from planner.networks.precision.cases import Case, Feed
from planner.networks.precision.gate import Gate, Labels, Verdict, judge, worst
from planner.networks.records import Engine

LabelsOf: TypeAlias = Callable[[list[NDArray[Any]]], Labels]
"""Outputs of one run -> integer labels; what the pipeline makes of them."""

NO_PRECISION_HINTS: Mapping[Engine, Mapping[str, str]] = {
    "onnxruntime": {},
    "openvino": {"INFERENCE_PRECISION_HINT": "f32"},
}
"""Precision is in the graph; OpenVINO shall add none of its own."""

_NEAR = 0.1
"""Share of places that count as near a border."""
_HOPELESS_LEAST, _HOPELESS_MEAN = 0.05, 0.02
"""So far below the gate after the first feeds of a case, the rest of it is not computed."""


def session_of(stage: Lifted, engine: Engine, threads: int) -> NetworkSession:
    """Raises: KernelError where the engine cannot run it."""
    parts = engine_graph(stage)
    return open_session(engine, parts.graph, parts.large, threads, NO_PRECISION_HINTS[engine])


def open_exact(parts: EngineGraph, threads: int) -> NetworkSession:
    """fp32 onnxruntime, which candidates are held against."""
    return open_session("onnxruntime", parts.graph, parts.large, threads, NO_PRECISION_HINTS["onnxruntime"])


class Judged:
    """Cases with the labels that fp32 onnxruntime gives, each computed when first asked for.

    fixed: numbers for the stage's parameters, added to every feed of a candidate.
    """

    def __init__(
        self, exact: NetworkSession, fixed: Feed, labels: LabelsOf, gate: Gate, cases: Sequence[Case]
    ) -> None:
        self._exact, self._fixed, self._labels, self._gate = exact, fixed, labels, gate
        self._cases = cases
        self._reference: tuple[list[Labels], ...] = tuple([] for _ in cases)
        """By place, feed by feed: two cases may have one name."""

    def without_parameters(self) -> "Judged":
        """The same cases for stages that have no parameters."""
        same = Judged(self._exact, {}, self._labels, self._gate, self._cases)
        same._reference = self._reference
        return same

    def show_segments(self) -> bool:
        """Whether fp32 finds anything in any of the cases. Raises: KernelError."""
        return any(
            self._known(place, number).any()
            for place, case in enumerate(self._cases)
            for number in range(len(case.feeds))
        )

    def verdict(self, session: NetworkSession) -> Verdict:
        """Of all cases, ending with the first that fails. Raises: KernelError."""
        found = []
        for place in range(len(self._cases)):
            found.append(self._of_case(session, place))
            if not found[-1].passed:
                break
        return worst(found)

    def _known(self, place: int, number: int) -> Labels:
        """What fp32 makes of a feed of a case; those before it come first."""
        known, feeds = self._reference[place], self._cases[place].feeds
        while len(known) <= number:
            known.append(self._labels(self._exact.run(feeds[len(known)])))
        return known[number]

    def _of_case(self, session: NetworkSession, place: int) -> Verdict:
        case = self._cases[place]
        known: list[Labels] = []
        ours: list[Labels] = []
        lenient = msgspec.structs.replace(
            self._gate,
            least_dice=self._gate.least_dice - _HOPELESS_LEAST,
            mean_dice=self._gate.mean_dice - _HOPELESS_MEAN,
            volume_change=np.inf,
            tiny_differing=self._gate.tiny_voxels,
        )
        for number, feed in enumerate(case.feeds):
            known.append(self._known(place, number))
            ours.append(self._labels(session.run({**feed, **self._fixed})))
            if number + 1 < len(case.feeds):
                so_far = f"{case.name}, first {number + 1} of {len(case.feeds)} feeds"
                if not judge(so_far, known, ours, lenient).passed:
                    return judge(so_far, known, ours, self._gate)
        return judge(case.name, known, ours, self._gate)


def seconds_in_turn(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run, A B A B. First runs, which compile, should be over."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - began)
    return taken


def error_of(outputs: Sequence[NDArray[Any]], exact: Sequence[NDArray[Any]]) -> float:
    """Root mean square difference relative to the exact outputs' spread; the worst of the outputs."""
    worst_error = 0.0
    for ours, theirs in zip(outputs, exact, strict=True):
        spread = float(theirs.std()) or 1.0
        worst_error = max(worst_error, float(np.sqrt(np.square(ours - theirs).mean())) / spread)
    return worst_error


@dataclass(frozen=True, slots=True)
class Borders:
    """Where the two largest classes of [n, C, ...] are closest: what is moved there changes labels.

    places: int64[k], into the flattened other axes; first, second: classes there; margin: what lies between
    them; spread: of all values.
    """

    places: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    margin: NDArray[np.float32]
    spread: float

    def moved(self, output: NDArray[Any]) -> float:
        """Root mean square change of the margin, relative to the spread."""
        classes = np.moveaxis(output, 1, 0).reshape(output.shape[1], -1)
        margin = classes[self.first, self.places] - classes[self.second, self.places]
        return float(np.sqrt(np.square(margin - self.margin).mean())) / self.spread


def borders_of(exact: NDArray[Any]) -> Borders | None:
    """The tenth of all places that is closest to a border. None for fewer than two classes."""
    if exact.ndim < 2 or exact.shape[1] < 2:
        return None
    classes = np.moveaxis(exact, 1, 0).reshape(exact.shape[1], -1)
    leaders = np.argpartition(classes, -2, axis=0)[-2:]
    two = np.take_along_axis(classes, leaders, axis=0)
    margin = two[1] - two[0]
    places = np.flatnonzero(margin <= np.quantile(margin, _NEAR))
    return Borders(places, leaders[1, places], leaders[0, places], margin[places], float(exact.std()) or 1.0)

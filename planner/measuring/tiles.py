"""Listens to what networks are fed while a stage runs, and times them by the number of tiles."""

import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.operators.base import NetworkSession, Resources
from models.operators.network_runs import SharingResources, TogetherSession
from planner.binding import TileCost
from planner.networks.joint import Joint, JointResources
from planner.numeric.record import Fused

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Heard:
    """A session and the first thing that was fed to it."""

    session: NetworkSession
    feed: Feed


class ListeningResources:
    """Resources that remember the largest feed of the networks `graphs`; otherwise those they wrap."""

    def __init__(self, resources: Resources, graphs: Collection[str]) -> None:
        self._resources, self._graphs = resources, frozenset(graphs)
        bound = resources if isinstance(resources, JointResources) else None
        self.joint: Sequence[Joint] = bound.joint if bound else ()
        self.fused: Sequence[Fused] = bound.fused if bound else ()
        self.heard: Heard | None = None

    def network(self, graph: str) -> NetworkSession:
        session = self._resources.network(graph)
        return _Listening(session, self) if graph in self._graphs else session

    def networks(self, graphs: Sequence[str]) -> TogetherSession | None:
        """Unheard: what networks have in common is not run tile by tile of one network."""
        shared = self._resources
        return shared.networks(graphs) if isinstance(shared, SharingResources) else None

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        return self._resources.parameters(digest)

    def listen(self, session: NetworkSession, feed: Feed) -> None:
        if self.heard is None or _size(feed) > _size(self.heard.feed):
            self.heard = Heard(session, feed)


@dataclass(frozen=True, slots=True)
class _Listening:
    session: NetworkSession
    to: ListeningResources

    def run(self, inputs: Feed) -> list[NDArray[np.float32]]:
        self.to.listen(self.session, inputs)
        return self.session.run(inputs)


def tile_cost(heard: Heard, repeats: int) -> TileCost | None:
    """fixed + per tile, from runs of one tile and of a whole batch (two, if the stage feeds one at a time).

    None for a network that does not take both.
    """
    name = max(heard.feed, key=lambda name: heard.feed[name].nbytes)
    fed = heard.feed[name]
    batch = max(len(fed), 2)
    many = fed if len(fed) == batch else np.repeat(fed, batch, axis=0)
    times: dict[int, list[float]] = {1: [], batch: []}
    try:
        for _ in range(max(repeats, 1)):
            for tiles in times:
                started = time.thread_time()
                heard.session.run({**heard.feed, name: np.ascontiguousarray(many[:tiles])})
                times[tiles].append(time.thread_time() - started)
    except Exception:  # a graph of fixed batch size refuses, in the words of its runtime
        return None
    one, all_ = statistics.median(times[1]), statistics.median(times[batch])
    per_tile = max((all_ - one) / (batch - 1), 0.0)
    return TileCost(
        shape=tuple(fed.shape[1:]),
        batch=len(fed),
        fixed_s=float(f"{max(one - per_tile, 0.0):.3g}"),
        per_tile_s=float(f"{per_tile:.3g}"),
    )


def _size(feed: Feed) -> int:
    return max((array.nbytes for array in feed.values()), default=0)

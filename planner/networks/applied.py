"""What it costs to apply the low-rank differences of a family's members while they run: measured here.

Applied, all such members share one session. Their factors are inputs, though, which no engine packs
beforehand, and a convolution into two channels reads as much as one into a hundred, so that the
multiplications that they add say little about the time. (With ranks 1 and 4 a U-Net of 32 to 256 channels
takes 1.26 and 1.38 times as long, a 3D one of 16 to 64 channels 1.42 and 1.58.)
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.errors import KernelError
from object_store.local import LocalStore
from planner.networks.apart import NotBorne, apart
from planner.networks.keeping import NetworkReader
from planner.networks.reading.probing import SIDES, drawn, shapes
from planner.networks.running.load import NetworkLoader
from planner.networks.running.sessions import BuildSession

log = logging.getLogger(__name__)

APPLIED_TIME = 1.2
"""A member may take so much longer with its difference applied than in a session of its own. A guess: what it
is worth that a network's weights are in memory once, and that no member waits until its session is made."""

_LARGE_ENOUGH_S = 0.05
"""Of one run: larger inputs are not tried."""
_ROUNDS = 5


def applied_time(store: Path, applied: str, materialised: str, network: str, variant: str) -> float:
    """Seconds of a run on the build that applies differences, by those of the member's own session.

    applied, materialised: digests of builds of its family; variant: of its record. Of one thread, the
    quickest of some runs in turn, in a process of its own; infinite where the member does not run.
    """
    try:
        return apart(_timed, store, (applied, materialised), network, variant)
    except (NotBorne, KernelError) as error:
        log.warning("the low-rank differences of a family are not applied while it runs: %s", error)
        return float("inf")


def _timed(store: Path, builds: tuple[str, str], network: str, variant: str) -> float:
    """Run apart. Raises: StoreError, KernelError."""
    loader = NetworkLoader(LocalStore(store))
    applied, own = (loader.member(build, network, variant) for build in builds)
    ports = NetworkReader(LocalStore(store)).structure(network).inputs
    random, feeds = np.random.default_rng(0), None
    for side in sorted(SIDES):
        sized = shapes(ports, (side,))
        tried = {port.name: drawn(random, port.dtype, size) for port, size in zip(ports, sized, strict=True)}
        try:
            took_s = _seconds(lambda tried=tried: own.run(tried))  # type: ignore[misc]  # bound to this round
        except KernelError:  # a size that this network does not take
            continue
        feeds = tried
        if took_s > _LARGE_ENOUGH_S:
            break
    if feeds is None:
        raise KernelError("no input was found that the network takes")
    given = feeds
    return _quickest((applied, own), lambda session: session.run(given))


def _quickest(sessions: Sequence[BuildSession], run: Callable[[BuildSession], object]) -> float:
    """Of the first by the second, in turn, each once before that."""
    for session in sessions:
        run(session)
    rounds = [[_seconds(lambda s=s: run(s)) for s in sessions] for _ in range(_ROUNDS)]  # type: ignore[misc]
    first, second = (min(times) for times in zip(*rounds, strict=True))
    return float(first / second)


def _seconds(run: Callable[[], object]) -> float:
    """Of the processor, which says more than the clock where others compute beside."""
    started = time.thread_time()
    run()
    return time.thread_time() - started

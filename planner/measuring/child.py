"""Measures stages in a process of its own, run as a worker runs them.

Before each measured run freed memory goes back to the kernel: taken again, it makes a run look smaller and
faster than it is on a series whose arrays are all asked for anew. Mapping the inputs and writing results to
shared memory is part of a run: for stages that only move memory that is most of what they cost.
"""

import gc
import itertools
import mmap
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from models.operators.base import KernelContext, Resources
from models.values import Series, Value
from planner.binding import read_binding
from planner.execute import run_stage
from planner.measuring.job import JOB
from planner.measuring.tiles import ListeningResources, tile_cost
from planner.measuring.work import Failed, Measured, Work
from planner.memory import arrays_of, give_back_freed, peak_bytes_of
from planner.networks.apart_child import Answer, asked_by, bounded, doing, offered_first, out_of_memory
from planner.networks.joint import networks_of
from planner.plan import SOURCE
from planner.resources import StoreResources
from planner.shared_values import SharedValue, read_value, write_value
from planner.told import told


def measure_in_child(connection: Connection) -> None:
    """The process: an Answer, Measured or Failed, to each Work, until the other end is closed."""
    offered_first()
    asked_by(connection)
    gc.freeze()  # else every collection walks, and so copies, all that the fork server has imported
    met: set[tuple[str, ...]] = set()
    while True:
        try:
            work: Work = connection.recv()
        except EOFError:
            return
        try:
            with bounded(work.bounds):
                answer: Measured | Failed = measured(work, met)
        except (
            Exception
        ) as error:  # kernels are foreign code: one that cannot take the phantom is not measured
            stopped = work.bounds.too_much_memory if out_of_memory(error) else ""
            answer = Failed(type(error).__name__, stopped)
        Answer(answer).send(connection)


def measured(work: Work, met: set[tuple[str, ...]]) -> Measured:
    """Compute the results, and measure if asked to. Raises what kernels raise; MemoryError.

    met: operators of the stages that this process ran before; those of `work` are added.
    """
    graphs = {graph for node in work.nodes for graph in networks_of(node)}
    listening = ListeningResources(_resources(work, threads=1), graphs)
    stage = _Stage(work, listening)
    stage.warm_up()
    kind = tuple(node.operator for node in work.nodes)
    if work.repeats and not graphs and kind not in met:
        # What libraries look up once and keep (80 MB in highdicom) is the process's, not the run's. The arena
        # that networks run in grows once, too, but is shared by runs one after the other, not side by side.
        stage.timed(time.thread_time)
        stage.delete_written()
    if kind not in met:
        met.add(kind)
        gc.collect()
        gc.freeze()  # nor need it walk those tables again before each run
    peak_bytes, seconds, results = stage.peak_and_results()
    if not work.repeats:
        return Measured(results=results)
    seconds = _median_seconds(seconds, stage, work)
    stage.delete_written()
    all_cores, tiles = None, None
    if work.tile_repeats and listening.heard is not None:
        tiles = tile_cost(listening.heard, work.tile_repeats)
    if work.all_cores and listening.heard is not None:
        with_all = _Stage(work, _resources(work, threads=os.cpu_count() or 1))
        all_cores = _share(stage, with_all, work)
        stage.delete_written()
        with_all.delete_written()
    return Measured(
        results=results,
        seconds=seconds,
        peak_bytes=peak_bytes,
        output_bytes=sum(shared.size for values in results.values() for shared in values),
        all_cores=all_cores,
        tiles=tiles,
    )


@dataclass(frozen=True, slots=True)
class _Stage:
    """The stage, ready to run over and over."""

    work: Work
    resources: Resources
    written: list[SharedValue] = field(default_factory=list)

    def warm_up(self) -> None:
        """Import what kernels import and open their networks: a server did so before its first run."""
        for node in self.work.nodes:
            for module in self.work.operators(node).imports:
                import_module(module)
            for graph in networks_of(node):
                doing(node.step)
                self.resources.network(graph)

    def peak_and_results(self) -> tuple[int, float, dict[str, tuple[SharedValue, ...]]]:
        """(peak bytes, seconds, results) of one run of each part, in memory that the process has not had."""
        peaks: list[int] = []
        seconds = 0.0
        made: dict[str, list[SharedValue]] = {node: [] for node in self.work.gives}
        for part in self._parts():
            gc.collect()
            give_back_freed()
            started = time.thread_time()
            inputs = self._inputs(part)
            for value in itertools.chain.from_iterable(inputs.values()):
                for array in arrays_of(value):  # so that what is mapped is not taken for what the run needs
                    np.max(array.ravel("K").view(np.uint8)[:: mmap.PAGESIZE], initial=0)
            values, peak = peak_bytes_of(lambda given=inputs: self._run(given))  # type: ignore[misc]
            peaks.append(peak)
            for node, shared in self._written(values):
                made[node].append(shared)
            seconds += time.thread_time() - started
            del inputs, values
        largest = max((len(part.images) for part in self.work.parts), default=0)
        images = sum(len(part.images) for part in self.work.parts)
        together = images / largest if largest else 1.0
        results = {node: tuple(shared) for node, shared in made.items()}
        return int(max(peaks) * together), seconds, results

    def timed(self, clock: Callable[[], float]) -> float:
        """Seconds of running all parts, from mapping inputs to written results."""
        started = clock()
        for part in self._parts():
            self.written.extend(shared for _, shared in self._written(self._run(self._inputs(part))))
        seconds = clock() - started
        if sum(shared.size for shared in self.written) > _SPARE_BYTES:
            self.delete_written()
        return seconds

    def delete_written(self) -> None:
        """Delete the results of timed runs. Not after each: pages just freed are in the cache still, and
        writing to them would look twice as fast as it is in a server that keeps results."""
        for shared in self.written:
            os.unlink(shared.path)
        self.written.clear()

    def _parts(self) -> tuple[Series | None, ...]:
        return self.work.parts or (None,)

    def _inputs(self, part: Series | None) -> dict[str, tuple[Value, ...]]:
        inputs: dict[str, tuple[Value, ...]] = {
            node: tuple(read_value(value) for value in values) for node, values in self.work.inputs.items()
        }
        if part is not None:
            inputs[SOURCE] = (part,)
        return inputs

    def _run(self, inputs: dict[str, tuple[Value, ...]]) -> dict[str, Value]:
        context = KernelContext(resources=self.resources, job=JOB, series=self.work.series)
        return run_stage(self.work.nodes, inputs, self.work.gives, context, told(self.work.operators))

    def _written(self, values: dict[str, Value]) -> list[tuple[str, SharedValue]]:
        return [
            (node, write_value(value, self.work.folder / f"{os.getpid()}-{next(_NUMBERS)}"))
            for node, value in values.items()
        ]


_NUMBERS = itertools.count()

_SPARE_BYTES = 512 << 20
"""Results of timed runs that may lie in shared memory at a time."""


def _resources(work: Work, threads: int) -> Resources:
    resources = StoreResources(Path(work.store), threads=threads)
    return resources.under(read_binding(work.binding)) if work.binding else resources


def _median_seconds(first: float, stage: _Stage, work: Work) -> float:
    times = [first]
    while len(times) < work.repeats and sum(times) < work.enough_s:
        times.append(stage.timed(time.thread_time))
    return statistics.median(times)


def _share(one: _Stage, every: _Stage, work: Work) -> float:
    """Wall seconds of `every` by those of `one`, in turns, so that what else runs disturbs both alike."""
    every.timed(time.perf_counter)  # opens its sessions
    shares: list[float] = []
    spent = 0.0
    while not shares or (len(shares) < work.repeats and spent < work.enough_s):
        times = [stage.timed(time.perf_counter) for stage in (one, every)]
        shares.append(times[1] / times[0])
        spent += sum(times)
    return statistics.median(shares)

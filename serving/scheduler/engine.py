"""The loop around `decide`: it owns the pools and the values, performs the actions, and feeds back events."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from serving.observe.metrics import Metrics
from serving.pools.messages import (
    Answer,
    RunDone,
    RunOutOfMemory,
    RunRaised,
    RunRefusedInput,
    RunStage,
    WarmedUp,
)
from serving.pools.shared_values import SharedValue
from serving.scheduler.decide import decide
from serving.scheduler.events import (
    Action,
    DropValues,
    Event,
    JobFailed,
    JobFinished,
    JobRefused,
    JobReleased,
    JobsSubmitted,
    JobStarted,
    KillRun,
    PoolResized,
    RunFailed,
    RunFinished,
    RunId,
    RunLost,
    RunRefused,
    StartRun,
    Tick,
    ValueKey,
)
from serving.scheduler.state import Limits, State
from serving.scheduler.tasks import JobOrder

log = logging.getLogger(__name__)

TICK_S = 1.0


class StagePool(Protocol):
    """What the engine asks of a pool: take runs, kill one."""

    def submit(self, run: RunStage) -> None: ...

    def kill(self, run: RunId) -> None: ...


@dataclass(slots=True, kw_only=True)
class StageUse:
    """What one stage did for one job. `ran_for` is the job it was started for: another's means shared."""

    stage: str
    name: str
    pool: str
    ran_for: str
    runs: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(slots=True)
class JobTrace:
    """What is known of a job while it is in the engine."""

    order: JobOrder
    notes: dict[str, None] = field(default_factory=dict)
    uses: dict[str, StageUse] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """How a job ended. values: outputs by node id, present exactly when it completed."""

    order: JobOrder
    refused: tuple[str, str] | None = None
    failed: str | None = None
    values: tuple[tuple[str, SharedValue], ...] = ()
    notes: tuple[str, ...] = ()
    uses: tuple[StageUse, ...] = ()


class Engine:
    """Runs jobs to their end on one event loop.

    on_started(job id) and on_ended(outcome) are awaited one job at a time, in order; the values of an
    outcome may be dropped once on_ended returns.
    """

    def __init__(
        self,
        limits: Limits,
        metrics: Metrics,
        on_started: Callable[[str], Awaitable[None]],
        on_ended: Callable[[JobOutcome], Awaitable[None]],
    ) -> None:
        self._state = State(limits)
        self._metrics = metrics
        self._on_started, self._on_ended = on_started, on_ended
        self._pools: dict[str, StagePool] = {}
        self._values: dict[ValueKey, SharedValue] = {}
        self._traces: dict[str, JobTrace] = {}
        self._started: dict[RunId, StartRun] = {}
        self._news: asyncio.Queue[tuple[str, JobOutcome | None]] = asyncio.Queue()

    def add_pool(self, name: str, pool: StagePool, slots: int) -> None:
        self._pools[name] = pool
        self.handle(PoolResized(name, slots))

    def resize_pool(self, name: str, slots: int) -> None:
        if name in self._pools:
            self.handle(PoolResized(name, slots))

    def submit(self, orders: Iterable[JobOrder]) -> None:
        """Take jobs in together, so that what they share is computed once from the start."""
        new = [order for order in orders if order.job.id not in self._traces]
        self._traces.update((order.job.id, JobTrace(order)) for order in new)
        self.handle(JobsSubmitted(tuple(order.job for order in new)))

    @property
    def jobs(self) -> tuple[str, ...]:
        return tuple(self._traces)

    @property
    def state(self) -> State:
        """For looking at (metrics, status pages); only `decide` changes it."""
        return self._state

    def pause(self) -> None:
        """Start nothing more; what runs may finish."""
        for name in self._pools:
            self.resize_pool(name, 0)

    async def settle(self) -> None:
        """Wait until every end that is known has been told."""
        await self._news.join()

    async def run(self) -> None:
        """Tell the news and watch the clock until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_news())
            group.create_task(self._tick())

    def answered(self, answer: Answer) -> None:
        """A worker's answer becomes an event."""
        match answer:
            case RunDone(run, values, seconds, cpu_seconds):
                self._keep(run, values, seconds, cpu_seconds)
                self.handle(RunFinished(run, tuple((node, value.size) for node, value in values)))
            case RunRefusedInput(run, reason, message):
                self._started.pop(run, None)
                self.handle(RunRefused(run, reason, message))
            case RunRaised(run, message, trace):
                log.error("run %s: %s (%s)", run, message, trace)
                self._started.pop(run, None)
                self.handle(RunFailed(run, message))
            case RunOutOfMemory(run):
                self.lost(run, "there was no memory left for it", alone=False)
            case WarmedUp():
                pass

    def lost(self, run: RunId, message: str, alone: bool) -> None:
        """The process of a run is gone."""
        self._metrics.runs_lost.inc()
        self.handle(RunLost(run, message, alone))

    def handle(self, event: Event) -> None:
        """One event through the core, and its actions done. Never awaits."""
        for action in decide(self._state, event, time.monotonic()):
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case StartRun():
                self._start(action)
            case KillRun(run):
                log.warning("run %s is past its deadline: its process is killed", run)
                self._pools[self._started[run].task.pool].kill(run)
            case DropValues(keys):
                for key in keys:
                    _unlink(self._values.pop(key))
            case JobStarted(job):
                self._note_present(job)
                self._news.put_nowait((job, None))
            case JobFinished(job, outputs):
                values = tuple((node, self._values[key]) for node, key in outputs)
                self._end(job, values=values)
            case JobRefused(job, reason, message):
                self._end(job, refused=(reason, message))
            case JobFailed(job, message):
                self._end(job, failed=message)

    def _start(self, start: StartRun) -> None:
        order = self._traces[start.job].order
        self._started[start.run] = start
        self._pools[start.task.pool].submit(
            RunStage(
                run=start.run,
                nodes=order.nodes_of(start.task.stage),
                inputs=tuple((node, tuple(self._values[key] for key in keys)) for node, keys in start.inputs),
                series=order.part_of_series(start.task, start.key.part),
                whole_series=order.series if start.task.per_job else None,
                job=order.context if start.task.per_job else None,
                gives=start.task.gives,
                binding=order.context.binding,
            )
        )

    def _keep(
        self, run: RunId, values: tuple[tuple[str, SharedValue], ...], seconds: float, cpu_seconds: float
    ) -> None:
        """Enter what a run made, and who it was for."""
        start = self._started.pop(run)
        entry = self._state.runs.get(run)
        for node, value in values:
            key = ValueKey(node, start.key.scope, start.key.part)
            if entry is None or key in self._values:  # given up meanwhile, or made before: equal bytes
                _unlink(value)
            else:
                self._values[key] = value
        self._metrics.stage_finished(start.task.name, start.task.pool, seconds, cpu_seconds)
        for job in entry.jobs if entry is not None else ():
            trace = self._traces[job]
            trace.notes.update((note, None) for _, value in values for note in value.notes)
            use = trace.uses.setdefault(
                start.task.stage,
                StageUse(
                    stage=start.task.stage, name=start.task.name, pool=start.task.pool, ran_for=start.job
                ),
            )
            use.runs += 1
            use.seconds += seconds
            use.cpu_seconds += cpu_seconds

    def _note_present(self, job: str) -> None:
        """A job that finds values ready inherits their notes."""
        trace = self._traces[job]
        scope = trace.order.job.input_digest
        nodes = {node for task in trace.order.job.tasks for node in task.gives}
        for key, value in self._values.items():
            if key.scope == scope and key.node in nodes:
                trace.notes.update((note, None) for note in value.notes)

    def _end(
        self,
        job: str,
        *,
        values: tuple[tuple[str, SharedValue], ...] = (),
        refused: tuple[str, str] | None = None,
        failed: str | None = None,
    ) -> None:
        trace = self._traces[job]
        outcome = JobOutcome(
            order=trace.order,
            refused=refused,
            failed=failed,
            values=values,
            notes=tuple(trace.notes),
            uses=tuple(trace.uses.values()),
        )
        self._news.put_nowait((job, outcome))

    async def _tell_news(self) -> None:
        while True:
            job, outcome = await self._news.get()
            if outcome is None:
                await self._on_started(job)
            else:
                await self._on_ended(outcome)
                self._traces.pop(job, None)
                self.handle(JobReleased(job))
            self._news.task_done()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.handle(Tick())


def _unlink(value: SharedValue) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(value.path)

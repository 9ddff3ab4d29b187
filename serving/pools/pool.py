"""A pool: worker processes of one kind, their slots, and what happens when one of them dies."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from serving.pools.messages import Answer, Request, RunStage, Stop, WarmedUp, WarmUp
from serving.pools.worker import worker_main
from serving.scheduler.events import RunId

log = logging.getLogger(__name__)

RESTART_DELAY_S = 0.2
"""Between a worker's death and its successor: a worker that dies at once must not spin. A guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """`processes` workers of `threads` threads each."""

    name: str
    processes: int
    threads: int
    store: Path
    memory: Path


@dataclass(slots=True, eq=False)
class _Worker:
    process: ForkServerProcess
    connection: Connection
    runs: set[RunId] = field(default_factory=set)
    warm: bool = False


class Pool:
    """Runs stages in worker processes. Lives on one event loop; callbacks come on that loop.

    on_answer(message) for every answer; on_lost(run, message, alone) for each run a dead worker had;
    on_slots(n) whenever the number of runs it can work at once has changed.
    """

    def __init__(
        self,
        spec: PoolSpec,
        context: ForkServerContext,
        on_answer: Callable[[Answer], None],
        on_lost: Callable[[RunId, str, bool], None],
        on_slots: Callable[[int], None],
    ) -> None:
        self.spec = spec
        self.restarts = 0
        self._context = context
        self._on_answer, self._on_lost, self._on_slots = on_answer, on_lost, on_slots
        self._workers: list[_Worker] = []
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._replacing: set[asyncio.Task[None]] = set()
        self._warm_up: WarmUp | None = None

    async def start(self) -> None:
        """Start the workers; they take runs at once and work them when they are up."""
        for _ in range(self.spec.processes):
            await self._start_worker()

    def warm_up(self, request: WarmUp) -> None:
        """Have every worker, and every later one, load what runs to come will need."""
        self._warm_up = request
        for worker in self._workers:
            self._send(worker, request)

    @property
    def warm(self) -> bool:
        return all(worker.warm for worker in self._workers)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.process.pid or 0 for worker in self._workers)

    def submit(self, run: RunStage) -> None:
        """Give a run to the least loaded worker."""
        worker = min(self._workers, key=lambda candidate: len(candidate.runs))
        worker.runs.add(run.run)
        self._send(worker, run)

    def kill(self, run: RunId) -> None:
        """Kill the worker that has this run; on_lost follows for all its runs."""
        for worker in self._workers:
            if run in worker.runs:
                worker.process.kill()

    async def stop(self, patience_s: float) -> None:
        """Let running stages finish and answer for so long, then kill. No run is lost by on_lost here."""
        self._stopping = True
        await asyncio.gather(*self._replacing)
        for worker in self._workers:
            self._send(worker, Stop())
        until = self._loop.time() + patience_s
        for worker in list(self._workers):
            await asyncio.to_thread(worker.process.join, max(0.0, until - self._loop.time()))
            worker.process.kill()
        while self._workers:  # each goes when the last answer in its pipe was read
            await asyncio.sleep(0.005)

    async def _start_worker(self) -> None:
        ours, theirs = self._context.Pipe()
        spec = self.spec
        process = self._context.Process(
            target=worker_main,
            args=(theirs, spec.threads, spec.store, spec.memory),
            name=f"lightbox-{spec.name}",
            daemon=True,
        )
        await asyncio.to_thread(process.start)  # waits for the fork server, which imports at its start
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        self._loop.add_reader(ours.fileno(), self._read, worker)
        if self._warm_up is not None:
            self._send(worker, self._warm_up)
        self._on_slots(len(self._workers) * spec.threads)

    def _send(self, worker: _Worker, message: Request) -> None:
        with contextlib.suppress(OSError):  # it died: _read sees the end of file and tells what was lost
            worker.connection.send(message)

    def _read(self, worker: _Worker) -> None:
        try:
            answer: Answer = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if isinstance(answer, WarmedUp):
            worker.warm = True
        else:
            worker.runs.discard(answer.run)
        self._on_answer(answer)

    def _bury(self, worker: _Worker) -> None:
        """A worker's connection ended. Its runs are lost; another takes its place."""
        self._loop.remove_reader(worker.connection.fileno())
        worker.connection.close()
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join(1.0)
        if self._stopping:
            return
        code = worker.process.exitcode
        log.warning("a worker of pool %s died with exit code %s", self.spec.name, code)
        self.restarts += 1
        self._on_slots(len(self._workers) * self.spec.threads)
        for run in sorted(worker.runs):
            for left in self.spec.memory.glob(f"{run}-*-{worker.process.pid}"):
                left.unlink()  # written, but never answered
            self._on_lost(run, f"the worker process died (exit code {code})", len(worker.runs) == 1)
        self._replacing.add(task := self._loop.create_task(self._replace()))
        task.add_done_callback(self._replacing.discard)

    async def _replace(self) -> None:
        await asyncio.sleep(RESTART_DELAY_S)
        if not self._stopping:
            await self._start_worker()

"""The processes that stages are measured in: one for many stages, and one for each stage that runs a graph.

An arena that a graph's session has grown, or libraries that were loaded for it, stay with a process; what
numpy and the C library leave behind is given back before each run (planner.measuring.child).

Nobody knows what a stranger's network does: a process is stopped when it does not keep within the bounds of
what it was asked, and the next stage gets another. How memory is bounded: planner.networks.apart_child.
"""

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess

from planner.measuring.child import measure_in_child
from planner.measuring.work import Failed, Measured, Work
from planner.networks.apart import ended
from planner.networks.apart_child import Answer, Bounds

_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def measuring_processes(imports: Iterable[str]) -> Iterator["Processes"]:
    """Processes that have imported these modules; they end with the block."""
    processes = Processes(_fork_server(imports))
    try:
        yield processes
    finally:
        processes.end()


class Processes:
    """Measures one Work at a time; starts processes as it needs them."""

    def __init__(self, context: ForkServerContext) -> None:
        self._context = context
        self._common: _Process | None = None

    def answer(self, work: Work, *, alone: bool) -> Measured | Failed:
        """alone: in a process that nothing else was measured in."""
        if alone:
            process = _Process(self._context)
            answer = process.answer(work)
            process.end()
            return answer
        self._common = self._common or _Process(self._context)
        answer = self._common.answer(work)
        if self._common.gone:
            self._common = None
        return answer

    def end(self) -> None:
        if self._common is not None:
            self._common.end()
            self._common = None


class _Process:
    """A process started, and the end of the pipe that it listens to."""

    def __init__(self, context: ForkServerContext) -> None:
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process: ForkServerProcess = context.Process(
            target=measure_in_child, args=(theirs,), daemon=True
        )
        self._process.start()
        theirs.close()
        self.gone = False
        """Whether it has ended without being asked to, or had to be stopped."""
        self._step = ""

    def answer(self, work: Work) -> Measured | Failed:
        """Failed also if the process is gone then: stopped, taken by the kernel, aborted by a library."""
        try:
            self._connection.send(work)
            answer = Answer.received(self._connection, self._hear, work.bounds.seconds)
        except (EOFError, OSError):
            return self._died(work.bounds)
        if answer is not None:
            found: Measured | Failed = answer.result
            return replace(found, step=self._step) if isinstance(found, Failed) else found
        self._process.kill()
        self.end()
        self.gone = True
        return Failed("process stopped", work.bounds.too_slow, self._step)

    def _hear(self, step: str) -> None:
        self._step = step

    def _died(self, bounds: Bounds) -> Failed:
        self.end()
        self.gone = True
        return Failed("process died", str(ended(self._process.exitcode or 0, bounds)), self._step)

    def end(self) -> None:
        """Let it end, which takes as long as what it is at. Again: nothing is left to do."""
        self._connection.close()
        self._process.join()


def _fork_server(imports: Iterable[str]) -> ForkServerContext:
    """Processes come from a server that has imported what they need; it runs until this process ends.

    Libraries get one thread each, as in workers, and this process' own environment stays as it was.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "planner.measuring.child", *sorted(set(imports))])
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return context

"""A worker process: takes stage runs from its connection, computes them on its threads, answers each.

It reads the object store, the spool and shared memory; it writes shared memory only.
"""

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from models.errors import InputRefused
from models.operators.base import KernelContext
from models.values import Value
from planner.execute import run_stage
from planner.plan import SOURCE
from serving.pools.messages import (
    Answer,
    Request,
    RunDone,
    RunOutOfMemory,
    RunRaised,
    RunRefusedInput,
    RunStage,
    Stop,
    WarmedUp,
    WarmUp,
)
from serving.pools.shared_values import read_value, write_value
from serving.pools.ways import WorkerResources

COMPUTE_NICENESS = 10
"""Added to the server's: taking images in and answering comes before computing on them."""


def worker_main(connection: Connection, threads: int, store: Path, memory: Path) -> None:
    """Serve runs until Stop arrives or the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's main process decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(COMPUTE_NICENESS)
    resources = WorkerResources(store)
    answering = threading.Lock()

    def answer(message: Answer) -> None:
        with answering:
            connection.send(message)

    with ThreadPoolExecutor(threads, thread_name_prefix="stage") as executor:
        while True:
            try:
                request: Request = connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # the server is gone; nobody reads what still runs
            match request:
                case RunStage():
                    executor.submit(_answered, request, resources, memory, answer)
                case WarmUp():
                    executor.submit(_warm_up, request, resources, answer)
                case Stop():
                    break
    connection.close()


def _answered(
    run: RunStage, resources: WorkerResources, memory: Path, answer: Callable[[Answer], None]
) -> None:
    """Compute and answer. Kernels are foreign code, so this is the one place that catches everything."""
    try:
        answer(_compute(run, resources, memory))
    except InputRefused as refused:
        answer(RunRefusedInput(run.run, refused.reason, str(refused)))
    except MemoryError:
        answer(RunOutOfMemory(run.run))
    except Exception as error:
        # The text of a foreign exception may quote the data: only its type and our places are told.
        frames = traceback.extract_tb(error.__traceback__)
        places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-6:])
        steps = "+".join(node.step for node in run.nodes)
        answer(RunRaised(run.run, f"{type(error).__name__} in stage {steps}", places))


def _compute(run: RunStage, resources: WorkerResources, memory: Path) -> RunDone:
    started, started_cpu = time.perf_counter(), time.thread_time()
    inputs: dict[str, tuple[Value, ...]] = {
        node: tuple(read_value(part) for part in parts) for node, parts in run.inputs
    }
    if run.series is not None:
        inputs[SOURCE] = (run.series,)
    context = KernelContext(resources=resources.under(run.binding), job=run.job, series=run.whole_series)
    values = run_stage(run.nodes, inputs, run.gives, context)
    paths = [memory / f"{run.run}-{index}-{os.getpid()}" for index in range(len(run.gives))]
    try:
        shared = tuple(
            (node, write_value(values[node], path)) for node, path in zip(run.gives, paths, strict=True)
        )
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return RunDone(run.run, shared, time.perf_counter() - started, time.thread_time() - started_cpu)


def _warm_up(request: WarmUp, resources: WorkerResources, answer: Callable[[Answer], None]) -> None:
    started = time.perf_counter()
    with contextlib.suppress(Exception):  # the first run that needs it will say what is wrong, by name
        resources.shared.warm_up(request.operators)
        bound = resources.under(request.binding)
        for graph in request.networks:
            with contextlib.suppress(Exception):  # nor shall one network keep the others cold
                bound.network(graph)
    answer(WarmedUp(time.perf_counter() - started))

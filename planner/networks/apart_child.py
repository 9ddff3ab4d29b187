"""The process that strangers' networks run in: one call after the other, each with bounds of its own."""

import pickle
import resource
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

IDLE_S = 30.0
"""After so long without a call it ends. A guess: networks of one command come soon after each other."""
WORN_BYTES = 1 << 30
"""Once it holds so much after a call, it ends: what an engine's arena has grown by stays with the process."""
_LATE_S = 5
"""The asking process keeps the time; this one does where that is gone."""
_TIMES_SENT = 4
"""The bounds are beyond so many times the arrays sent: the author's file and its canonical form each hold
their tensors, and again as the engine packs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one call. bytes: address space that it may take beyond what the process has and is sent."""

    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function gave, or raised."""

    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A call as it is sent. pickled: function and arguments, without the bytes of arrays."""

    pickled: bytes
    arrays: Sequence[bytes | memoryview]
    bounds: Bounds

    @classmethod
    def of(cls, function: Callable[..., Any], arguments: tuple[Any, ...], bounds: Bounds) -> Self:
        """Copies no array that is contiguous."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps((function, arguments), protocol=5, buffer_callback=buffers.append)
        return cls(pickled, [buffer.raw() for buffer in buffers], bounds)

    @property
    def allowed_bytes(self) -> int:
        return self.bounds.bytes + _TIMES_SENT * sum(memoryview(array).nbytes for array in self.arrays)

    def send(self, connection: Connection) -> None:
        """Raises: OSError if nobody listens."""
        connection.send((self.pickled, len(self.arrays), self.bounds))
        for array in self.arrays:
            connection.send_bytes(array)

    @classmethod
    def received(cls, connection: Connection) -> Self:
        """Raises: EOFError, OSError if nobody sends."""
        pickled, count, bounds = connection.recv()
        return cls(pickled, [connection.recv_bytes() for _ in range(count)], bounds)


def main(handle: int) -> None:
    """An answer to each task, until the other end is closed or nothing is asked. handle: of the pipe."""
    with suppress(OSError):  # Linux only: if memory runs out all the same, this process is the one to end
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with Connection(handle) as connection, suppress(EOFError, OSError):
        while connection.poll(IDLE_S):
            connection.send(_answer(Task.received(connection)))
            if _pages(1) > WORN_BYTES:
                return


def _answer(task: Task) -> Answer:
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    try:
        function, arguments = pickle.loads(task.pickled, buffers=task.arrays)  # noqa: S301
        signal.alarm(int(task.bounds.seconds) + _LATE_S)
        _limit(task.allowed_bytes, unlimited)
        return Answer(function(*arguments))
    except MemoryError:
        return Answer(error=MemoryError())
    except Exception as error:  # of any kind: it is raised where the call came from
        return Answer(error=_sendable(error))
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)


def _limit(more: int, unlimited: tuple[int, int]) -> None:
    """Let the process grow by so many bytes of address space."""
    limit = _pages(0) + more
    if unlimited[0] != resource.RLIM_INFINITY:
        limit = min(limit, unlimited[0])
    with suppress(OSError, ValueError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, unlimited[1]))


def _pages(field: int) -> int:
    """Bytes of address space (0) or in memory (1); nothing is known where it is not Linux."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[field]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _sendable(error: Exception) -> Exception:
    """Itself, or an error with its text where it would not arrive as it is. What is unpickled is our own."""
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:  # whatever its constructor says of arguments it does not know
        again = None
    return error if type(again) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")

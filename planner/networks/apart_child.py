"""The process that strangers' networks run in: one call after the other, each with bounds of its own.

Memory is bounded by RLIMIT_AS, which Linux keeps. Where a system has no such limit (macOS takes it and does
not keep it), memory is bounded by the time alone: the same calls are answered, and one that fills the machine
is stopped when its time is over, or by the kernel before, to which this process offers itself first.
"""

import os
import pickle
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

IDLE_S = 30.0
"""After so long without a call it ends. A guess: networks of one command come soon after each other."""
WORN_BYTES = 1 << 30
"""Once it holds so much after a call, it ends: what an engine's arena has grown by stays with the process."""
_LATE_S = 5
"""The asking process keeps the time; this one does where that is gone."""
_LENT = 0.75
"""A guess: the share of the machine's memory that one call may take."""
_TIMES_SENT = 4
"""The bounds are beyond so many times the arrays sent: the author's file and its canonical form each hold
their tensors, and again as the engine packs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one call. bytes: address space that it may take beyond what the process has and is sent."""

    seconds: float
    bytes: int

    def here(self) -> Self:
        """The same, and no more bytes than this machine can lend: others run on it, a server perhaps."""
        return replace(self, bytes=min(self.bytes, int(_memory_bytes() * _LENT) or self.bytes))

    @property
    def too_slow(self) -> str:
        """What is said of a call that was stopped for its time."""
        return f"it did not come to an end in {self.seconds:.0f} s"

    @property
    def too_much_memory(self) -> str:
        """What is said of a call that was stopped for its memory."""
        return f"it needs more than {self.bytes / (1 << 30):.1f} GiB of memory"


@dataclass(frozen=True, slots=True)
class Doing:
    """Sent before the answer: what the call is at, in a word for people."""

    what: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function gave, or raised."""

    result: Any = None
    error: Exception | None = None

    def send(self, connection: Connection) -> None:
        """Arrays go as they lie. Raises: OSError if nobody listens."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(self, protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        connection.send((pickled, [array.nbytes for array in arrays]))
        for array in arrays:
            if array.nbytes:
                connection.send_bytes(array)

    @classmethod
    def received(cls, connection: Connection, doing: Callable[[str], None], seconds: float) -> Self | None:
        """The answer, its arrays writable; None if it did not begin in time. doing: called with each Doing.

        Raises: EOFError, OSError if nobody sends.
        """
        end = time.monotonic() + seconds
        while connection.poll(max(0.0, end - time.monotonic())):
            said = connection.recv()
            if isinstance(said, Doing):
                doing(said.what)
                continue
            pickled, sizes = said
            arrays = [bytearray(size) for size in sizes]
            for array in arrays:
                if array:
                    connection.recv_bytes_into(array)
            answer: Self = pickle.loads(pickled, buffers=arrays)  # noqa: S301
            return answer
        return None


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
    def allowed(self) -> Bounds:
        """Beyond what the process has; what it is sent is counted in."""
        sent = sum(memoryview(array).nbytes for array in self.arrays)
        return replace(self.bounds, bytes=self.bounds.bytes + _TIMES_SENT * sent)

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
    offered_first()
    with Connection(handle) as connection, suppress(EOFError, OSError):
        asked_by(connection)
        while connection.poll(IDLE_S):
            _answer(Task.received(connection)).send(connection)
            if _pages(1) > WORN_BYTES:
                return


_ASKING: list[Connection] = []
"""The other end, in a process that computes for another."""


def asked_by(connection: Connection) -> None:
    """Whom `doing` tells from now on."""
    _ASKING[:] = [connection]


def doing(what: str) -> None:
    """Tell who asked what the call is at, should it have to be stopped; nobody where nobody asked.

    Of a patient nothing is to be told: it goes into messages.
    """
    for connection in _ASKING:
        connection.send(Doing(what))


def _answer(task: Task) -> Answer:
    try:
        function, arguments = pickle.loads(task.pickled, buffers=task.arrays)  # noqa: S301
        with bounded(task.allowed):
            return Answer(function(*arguments))
    except MemoryError:
        return Answer(error=MemoryError())
    except Exception as error:  # of any kind: it is raised where the call came from
        return Answer(error=_sendable(error))


@contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """Keep what is done within bounds, in the main thread: MemoryError for memory, SIGALRM's end for time.

    Who asked keeps the time; this process does some seconds later, where that one is gone.
    """
    signal.alarm(max(1, int(bounds.seconds) + _LATE_S))
    try:
        with _limited(bounds.bytes):
            yield
    finally:
        signal.alarm(0)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is for want of memory: Python's own, or what onnxruntime says then."""
    said = str(error)
    return isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = ("Failed to allocate memory", "AllocateRawInternal", "bad_alloc")


def offered_first() -> None:
    """If memory runs out all the same, this process is the one that the kernel is to end. Linux only."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


_ADDRESS_SPACE: int | None = getattr(resource, "RLIMIT_AS", None)


@contextmanager
def _limited(more: int) -> Iterator[None]:
    """Let the process grow by so many bytes of address space; by any where the system has no such limit."""
    which = _ADDRESS_SPACE
    if which is None:
        yield
        return
    before = resource.getrlimit(which)
    limit = _pages(0) + more
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    with suppress(OSError, ValueError):
        resource.setrlimit(which, (limit, before[1]))
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(which, before)


def _memory_bytes() -> int:
    """Memory of this machine; 0 where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


def _pages(field: int) -> int:
    """Bytes of address space (0) or in memory (1); nothing is known where it is not Linux."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[field]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _sendable(error: Exception) -> Exception:
    """Itself, or an error with its text where it would not arrive as it is. What is unpickled is our own."""
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:  # whatever its constructor says of arguments it does not know
        again = None
    return error if type(again) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")

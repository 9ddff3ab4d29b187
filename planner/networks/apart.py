"""Runs what computes with a stranger's network in a process of its own, with bounds on memory and time.

A network may ask for more memory than the machine has, never end, or crash the engine; then that process
ends, and the one that asked goes on with a sentence about it. The process is started anew, not forked: the
asking one may have threads of an engine. It serves one call after the other, as starting takes 0.4 s, and
ends by itself where nothing is asked (planner.networks.apart_child).
"""

import atexit
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeAlias, TypeVar

from planner.networks.apart_child import Answer, Bounds, Task

T = TypeVar("T")

Cause: TypeAlias = Literal["too-slow", "too-much-memory", "crashes"]

BOUNDS = Bounds(seconds=300.0, bytes=8 << 30)
"""Guesses: a few runs of any network for images, on the smallest inputs that it takes, ask for far less. They
are not by what the machine has, so that machines agree on which networks there are."""


class NotBorne(Exception):
    """The process had to be ended, or ended by itself. reason: a word that a program can compare.

    doing: what the function last said that it is at (planner.networks.apart_child.doing), if it says so.
    """

    def __init__(self, reason: Cause, message: str, doing: str = "") -> None:
        super().__init__(message)
        self.reason: Cause = reason
        self.doing = doing


def apart(function: Callable[..., T], *arguments: Any, bounds: Bounds | None = None) -> T:
    """function(*arguments), computed in another process. Threads may call it; they wait for each other.

    function: of a module, not of a class or another function. Arrays among the arguments reach it read-only.
    bounds: BOUNDS, if none are given; the bytes are beyond four times those of the arrays.
    Raises: NotBorne; what `function` raises, without where it was raised.
    """
    with _TURN:
        return _PROCESSES.answer(Task.of(function, arguments, bounds or BOUNDS))  # type: ignore[no-any-return]


class _Left(Exception):
    """The process has ended, as it does when nothing was asked of it for a while."""


class _Process:
    """A process started, and the end of the pipe that it listens to."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            start = (
                f"import sys; sys.path[:] = {sys.path!r}; from planner.networks.apart_child import main; "
                f"main({theirs.fileno()})"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", start],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what an engine says as it crashes; the signal tells
            )
        self._connection = Connection(ours.detach())
        self.doing = ""
        """What the call that it is at, or was at last, said of itself."""

    def answer(self, task: Task) -> Answer:
        """Raises: NotBorne, _Left; the process is gone then."""
        bounds = task.bounds
        self.doing = ""
        try:
            task.send(self._connection)
            answer = Answer.received(self._connection, self._hear, bounds.seconds)
        except (EOFError, OSError):
            code = self.end(wait_s=10)
            if code == 0:
                raise _Left from None
            raise ended(code, bounds, self.doing) from None
        if answer is None:
            self.end()
            raise NotBorne("too-slow", bounds.too_slow, self.doing)
        return answer

    def _hear(self, doing: str) -> None:
        self.doing = doing

    def end(self, wait_s: float = 0.0) -> int:
        """End it, once it had some seconds to do so by itself; its exit code, or minus its signal."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(wait_s)
        self._process.kill()
        return self._process.wait()


class _Processes:
    """The one process that is kept, if any."""

    def __init__(self) -> None:
        self._kept: _Process | None = None

    def answer(self, task: Task) -> Any:
        while True:
            started = self._kept is None
            process, self._kept = self._kept or _Process(), None
            try:
                answer = process.answer(task)
            except _Left:
                if started:  # it was never idle
                    raise NotBorne("crashes", "the process that ran it ended without a word") from None
                continue
            except BaseException:  # interrupted: no answer of this task is to be taken for one of the next
                process.end()
                raise
            self._kept = process
            if answer.error is None:
                return answer.result
            if isinstance(answer.error, MemoryError):
                raise NotBorne("too-much-memory", task.allowed.too_much_memory, process.doing)
            raise answer.error

    def end(self) -> None:
        """The process ends once it is not busy; nothing is left behind by this one."""
        if self._kept is not None:
            self._kept.end()
            self._kept = None


def ended(code: int, bounds: Bounds, doing: str = "") -> NotBorne:
    """Why a process that was to keep within bounds has ended. code: its exit code, or minus its signal."""
    if code == -signal.SIGALRM:
        return NotBorne("too-slow", bounds.too_slow, doing)
    perhaps = ", as where memory has run out" if code == -signal.SIGKILL else ""
    return NotBorne("crashes", f"the process that ran it ended by {_said(code)}{perhaps}", doing)


def _said(code: int) -> str:
    """An exit code, or minus the number of a signal."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


_TURN = threading.Lock()
_PROCESSES = _Processes()
atexit.register(_PROCESSES.end)

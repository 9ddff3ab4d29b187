"""How much memory a run takes, and how much a value holds."""

import ctypes
import dataclasses
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes_of(run: Callable[[], T]) -> tuple[T, int]:
    """The result of `run`, and the most bytes it held at once (result included, inputs not).

    On Linux it is how far the process grew, which sees native code too, but neither what was taken from
    memory freed before (`give_back_freed` first) nor what was asked for and never touched. Elsewhere it is
    what Python and numpy allocated.
    """
    if not _reset_high_water():
        tracemalloc.start()
        try:
            result = run()
            return result, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    resident = _kilobytes("VmRSS")
    result = run()
    return result, max(_kilobytes("VmHWM") - resident, 0) << 10


def give_back_freed() -> None:
    """Let the C library return what was freed to the kernel, so that the next run has to ask for it anew."""
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def arrays_of(value: Any) -> Iterator[NDArray[Any]]:
    """All arrays in a value; byte strings as arrays of bytes."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, bytes):
        yield np.frombuffer(value, np.uint8)
    elif isinstance(value, tuple):
        for item in value:
            yield from arrays_of(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from arrays_of(getattr(value, field.name))


def _reset_high_water() -> bool:
    """VmHWM begins again at VmRSS (proc(5), clear_refs 5). False where that cannot be: not Linux."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _kilobytes(field: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0

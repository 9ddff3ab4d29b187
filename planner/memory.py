"""How much memory a run takes, and how much a value holds."""

import dataclasses
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes_of(run: Callable[[], T]) -> tuple[T, int]:
    """The result of `run`, and the most bytes it held at once (result included, inputs not).

    The larger of two views: what Python and numpy allocated, and how far the process grew (which sees
    native code too, but not what it takes from memory freed before).
    """
    _reset_high_water()
    resident = _kilobytes("VmRSS")
    tracemalloc.start()
    try:
        result = run()
        _, traced = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    grown = max(_kilobytes("VmHWM") - resident, 0) << 10
    return result, max(traced, grown)


def value_bytes(value: Any) -> int:
    """Bytes of all arrays and byte strings in a value."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, tuple):
        return sum(value_bytes(item) for item in value)
    if dataclasses.is_dataclass(value):
        return sum(value_bytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 0


def _reset_high_water() -> None:
    """Linux: VmHWM begins again at VmRSS (proc(5), clear_refs 5). Elsewhere only Python's view counts."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return


def _kilobytes(field: str) -> int:
    try:
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0

"""Values in shared memory: written once by the process that made them, mapped by those that read them.

A value is pickled with its arrays out of band (PEP 574); the pickle and the arrays lie in one file of a
memory-backed folder, so that passing a volume to another process costs a name, not a copy. Files are used
rather than multiprocessing.shared_memory because a folder can be swept after a crash.
"""

import errno
import mmap
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from models.values import Value

_ALIGNMENT = 64
"""Bytes: a cache line, and what vector loads like."""


@dataclass(frozen=True, slots=True)
class SharedValue:
    """Where a value lies: a file, and the (offset, length) of its pickle and of each array in it."""

    path: str
    parts: tuple[tuple[int, int], ...]
    size: int
    notes: tuple[str, ...] = ()
    """The value's notes, so that nobody has to map it to read them."""


def write_value(value: Value, path: Path) -> SharedValue:
    """Write `value` to a new file at `path`. Raises MemoryError when it is full (nothing stays behind)."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    pieces = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    parts, offset = [], 0
    for piece in pieces:
        parts.append((offset, piece.nbytes))
        offset += -(-piece.nbytes // _ALIGNMENT) * _ALIGNMENT
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for (start, _), piece in zip(parts, pieces, strict=True):
            _write_at(descriptor, piece, start)
    except OSError as error:
        os.unlink(path)
        if error.errno == errno.ENOSPC:
            raise MemoryError("shared memory is full") from error
        raise
    finally:
        os.close(descriptor)
    return SharedValue(str(path), tuple(parts), offset, tuple(getattr(value, "notes", ())))


def read_value(shared: SharedValue) -> Value:
    """The value, its arrays mapped read-only; the mapping lives as long as any of them."""
    descriptor = os.open(shared.path, os.O_RDONLY)
    try:
        mapped = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)
    (start, length), *arrays = shared.parts
    buffers = [mapped[begin : begin + size] for begin, size in arrays]
    # Our own worker processes wrote it, in a folder of mode 0700.
    return cast(Value, pickle.loads(mapped[start : start + length], buffers=buffers))  # noqa: S301


def _write_at(descriptor: int, piece: memoryview, offset: int) -> None:
    view = piece.cast("B") if piece.nbytes else piece
    done = 0
    while done < view.nbytes:
        done += os.pwrite(descriptor, view[done:], offset + done)

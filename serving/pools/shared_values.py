"""Folders for values in shared memory (planner.shared_values): made for a server, swept after a crash."""

import os
import shutil
import tempfile
from pathlib import Path

from planner.shared_values import SharedValue, read_value, write_value

__all__ = ["SharedValue", "memory_folder", "read_value", "sweep_dead", "write_value"]


def memory_folder(prefix: str) -> Path:
    """A new private folder in memory (/dev/shm), or in the temporary folder where there is none."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made in it, mode 0700
    base = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=prefix, dir=base))


def sweep_dead(prefix: str) -> None:
    """Remove folders of servers that are gone: the file `pid` in them says whose they are."""
    for base in {Path("/dev/shm"), Path(tempfile.gettempdir())}:  # noqa: S108
        for folder in base.glob(f"{prefix}*"):
            owner = folder / "pid"
            try:
                pid = int(owner.read_text())
                os.kill(pid, 0)
            except (ProcessLookupError, ValueError):
                shutil.rmtree(folder, ignore_errors=True)
            except (OSError, PermissionError):
                continue  # being made, or another user's

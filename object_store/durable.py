"""Files and directories that survive a power cut: the order of system calls lives here, and only here."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make the entries of the directory `path` durable (fsync of a file does not cover its name)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: Path) -> None:
    """Create `path` and its missing parents, each durable before the next one is made in it."""
    if path.is_dir():
        return
    make_directories(path.parent)
    with suppress(FileExistsError):  # another process was quicker
        path.mkdir()
    sync_directory(path.parent)


def write_all(descriptor: int, data: memoryview) -> None:
    """Write every byte; one `write` takes 2 GiB at most and may take less."""
    while data:
        data = data[os.write(descriptor, data) :]


@contextmanager
def temporary_file(directory: Path) -> Iterator[tuple[int, Path]]:
    """A new file in `directory`, open for writing; whatever is still under its name at the end is removed.

    It is read-only for everybody who opens it later: objects never change.
    """
    path = directory / secrets.token_hex(16)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink(missing_ok=True)


def publish(descriptor: int, temporary: Path, target: Path) -> None:
    """Give the finished file its name. Content first, then name, then the directory that holds the name."""
    os.fsync(descriptor)
    os.replace(temporary, target)
    sync_directory(target.parent)


def refresh(path: Path) -> None:
    """Set the file's modification time to now, durably, with its name.

    The name too: whoever renamed it may not have reached its own fsync of the directory yet.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.utime(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


@contextmanager
def locked(path: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the advisory lock `path` among processes and threads; it ends when its holder dies."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone would leave it to a child forked meanwhile
        os.close(descriptor)

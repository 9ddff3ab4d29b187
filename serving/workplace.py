"""The server's folders: one data directory, locked by one server, and a private folder in memory."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from object_store.durable import make_directories, sync_directory
from serving.config import Config, ConfigError
from serving.pools.shared_values import memory_folder, sweep_dead

_MEMORY_PREFIX = "lightbox-"


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where things are while a server runs."""

    data: Path
    spool: Path
    results: Path
    journal: Path
    store: Path
    memory: Path
    """Memory-backed; values of running jobs. Gone with the server."""
    address_file: Path
    """JSON: pid and addresses of the running server, for the command line."""


def _make_durable(folder: Path) -> None:
    """Make it and its parents, with their names. Raises: OSError."""
    make_directories(folder)
    with contextlib.suppress(PermissionError):  # not ours to sync: then it is not we who made it either
        sync_directory(folder.parent)


@contextlib.contextmanager
def occupy(config: Config) -> Iterator[Workplace]:
    """Make the folders and hold the lock until the end.

    Raises: ConfigError if another server holds the data directory, or it cannot be written.
    """
    data = config.data_dir
    try:
        _make_durable(data)
        _make_durable(config.store_path)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"data_dir: {data} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ConfigError(f"data_dir: another Lightbox server runs on {data}") from error
    sweep_dead(_MEMORY_PREFIX)
    memory = memory_folder(_MEMORY_PREFIX)
    (memory / "pid").write_text(str(os.getpid()))
    place = Workplace(
        data=data.resolve(),
        spool=data.resolve() / "spool",
        results=data.resolve() / "results",
        journal=data.resolve() / "journal.sqlite",
        store=config.store_path.resolve(),
        memory=memory,
        address_file=data.resolve() / "server.json",
    )
    try:
        yield place
    finally:
        place.address_file.unlink(missing_ok=True)
        shutil.rmtree(memory, ignore_errors=True)
        os.close(lock)

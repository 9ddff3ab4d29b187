"""The error tree of `object_store`.

StoreError
├── DigestInvalid         a text that is no digest
├── ObjectMissing         not here; put it, or ask another store
├── ObjectCorrupt         here, but not the bytes its digest promises; putting it again heals it
├── NameUnknown           nobody set this name, or it was deleted
├── NothingToRollBackTo   this name never stood for anything else
├── StoreFull             no space or quota is left; retry after making room
└── StoreUnavailable      the disk, its permissions or the database say no

Every error can be pickled (stages fail in other processes). Messages hold digests and names, never content.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from object_store.digest import Digest


class StoreError(Exception):
    """Root of everything `object_store` raises on purpose."""


class DigestInvalid(StoreError, ValueError):
    """`text` is not `sha256:<64 hexadecimal digits>:<size>`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 100 else self.text[:100] + "..."
        return f"not a digest (sha256:<64 lowercase hex digits>:<size in bytes>): {shown!r}"


class ObjectMissing(StoreError):
    """The store does not hold `digest`."""

    def __init__(self, digest: "Digest") -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"the store does not hold {self.digest}"


class ObjectCorrupt(StoreError):
    """What lies under `digest` has another length or another hash."""

    def __init__(self, digest: "Digest") -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"damaged in the store: {self.digest}"


class NameUnknown(StoreError):
    """`name` stands for nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the store has no name {self.name!r}"


class NothingToRollBackTo(StoreError):
    """`name` has no earlier digest that differs from its present one."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"{self.name!r} has nothing earlier to roll back to"


class StoreFull(StoreError):
    """No space (or quota) is left where the store lives."""


class StoreUnavailable(StoreError):
    """The operating system or the database refuses; the message says what."""


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """The border to the operating system: its errors leave here as ours, naming `place`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"no space left for the store at {place}") from error
        raise StoreUnavailable(f"the store at {place}: {error.strerror or error}") from error


@contextmanager
def database_errors(place: Path) -> Iterator[None]:
    """The border to SQLite, likewise."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFull(f"no space left for {place}") from error
        raise StoreUnavailable(f"{place}: {error}") from error

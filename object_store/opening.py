"""A store as most programs want it: objects and their names in one directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from object_store.errors import disk_errors
from object_store.local import LocalStore
from object_store.names import Names

NAMES = "names.sqlite"
"""The file with the names, in the store's directory."""


@dataclass(frozen=True, slots=True)
class Store:
    """Whoever opened it closes it."""

    objects: LocalStore
    names: Names

    def close(self) -> None:
        self.names.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_store(directory: Path) -> bool:
    """Whether `open_store` would find a store there, and not make one. Raises: StoreUnavailable."""
    with disk_errors(directory):
        return (directory / NAMES).exists() or (directory / "objects").is_dir()


def open_store(directory: Path, *, verify_on_read: bool = False) -> Store:
    """Open the store in `directory`, creating it if it is not there; read-only where we may not write.

    Raises: StoreUnavailable, StoreFull.
    """
    return Store(LocalStore(directory, verify_on_read=verify_on_read), Names(directory / NAMES))

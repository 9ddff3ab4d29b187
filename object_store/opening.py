"""A store as most programs want it: objects and their names in one directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from object_store.local import LocalStore
from object_store.names import Names


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


def open_store(directory: Path, *, verify_on_read: bool = False) -> Store:
    """Open the store in `directory`, creating it if it is not there; read-only where we may not write.

    Raises: StoreUnavailable, StoreFull.
    """
    return Store(LocalStore(directory, verify_on_read=verify_on_read), Names(directory / "names.sqlite"))

"""Takes a file's network into the store, if its canonical form computes what the file does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from object_store.opening import Store
from planner.networks.errors import NotOpenable
from planner.networks.families.register import Registration, register
from planner.networks.structure import Opened


def admitted(
    store: Store,
    file: Path,
    opened: Opened,
    overrides: Mapping[str, NDArray[Any]] | None = None,
    *,
    name: str = "",
) -> Registration:
    """Register what `open_network(file, overrides)` gave, and let the store's `name` (if any) stand for it.

    The file and its canonical form run side by side before the network becomes the base of a new family. A
    further member of a family has its structure from the same passes and is not run.
    Raises: NotOpenable with canonical-differs, NetworkRefused where running it takes too much, and nothing is
    registered; StoreError. Takes a `turn` of the
    store, as registering does.
    """

    def compare() -> None:
        from planner.networks.reading.faithful import faithful

        if differs := faithful(file, opened, overrides):
            raise NotOpenable(
                "canonical-differs", f"opened it would not compute what the file does: {differs}"
            )

    return register(store, opened, name=name, admit=compare)

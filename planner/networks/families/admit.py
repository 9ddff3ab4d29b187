"""Takes a file's network into the store, if its canonical form computes what the file does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from object_store.errors import ObjectCorrupt, ObjectMissing
from object_store.opening import Store
from planner.networks.errors import MANY_INPUTS, NetworkDamaged, NotOpenable, said_inputs
from planner.networks.families.heal import check_whole, heal
from planner.networks.families.lost import damaged_networks, hashed, present
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
    registered; NetworkDamaged, where the store lacks parts of other networks that this one is compared with,
    or of its family: parts that the file has are put back; StoreError. Takes a `turn` of the store, as
    registering does.
    """

    def compare() -> None:
        from planner.networks.reading.faithful import faithful

        if differs := faithful(file, opened, overrides):
            if len(opened.input_names) > MANY_INPUTS:  # which is why, more likely than not
                raise NotOpenable("inputs-without-values", f"it needs {said_inputs(opened.input_names)}")
            raise NotOpenable(
                "canonical-differs", f"opened it would not compute what the file does: {differs}"
            )

    try:
        done = register(store, opened, name=name, admit=compare)
        if not done.bytes_added:  # it was known, so nothing of it was looked at
            check_whole(store, done.network, hashed(store) if name else present(store))
        return done
    except (ObjectMissing, ObjectCorrupt, NetworkDamaged):
        network = heal(store, opened)
    try:
        done = register(store, opened, name=name, admit=compare)
        check_whole(store, network, hashed(store))
    except (ObjectMissing, ObjectCorrupt) as error:
        raise _damaged(store, error) from error
    return done


def _damaged(store: Store, error: ObjectMissing | ObjectCorrupt) -> Exception:
    """The same, naming the networks that lack something; as it is if none does."""
    damaged = damaged_networks(store, hashed(store))
    return NetworkDamaged(map(str, damaged)) if damaged else error

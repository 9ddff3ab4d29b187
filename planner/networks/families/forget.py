"""Networks that nothing uses any more: their names go, and garbage collection takes the rest."""

from collections.abc import Collection

from object_store.digest import Digest
from object_store.opening import Store
from planner.names import EXACTS, FAMILIES, VARIANTS, variant_name
from planner.networks.families.members import variants


def forget_unused(store: Store, used: Collection[str]) -> tuple[str, ...]:
    """Forget all registered networks but those in `used` (digests) and the bases they are kept against.

    Returns what was forgotten, sorted; records of another version of Lightbox stay. Within a `turn` of the
    store. Cut short at any point it leaves no network half known. Raises: StoreError.
    """
    known = variants(store)
    needed = {known[network].family for network in used if network in known} | set(used)
    forgotten = tuple(sorted(known.keys() - needed))
    # Members first, and of each network first the name without which it counts as not registered at all:
    # whoever brings it again then writes everything anew.
    for network in sorted(forgotten, key=lambda digest: known[digest].family == digest):
        digest = Digest.parse(network)
        store.names.delete(variant_name(digest.sha256))
        store.names.forget_tags([digest])  # a base no longer found is no longer joined
    _forget_leftovers(store)
    return forgotten


def _forget_leftovers(store: Store) -> None:
    """Families and exact numbers of networks that are not registered (any more)."""
    registered = {name.removeprefix(VARIANTS) for name in store.names.items(VARIANTS)}
    for prefix in (FAMILIES, EXACTS):
        for name in store.names.items(prefix):
            if name.rpartition("/")[2] not in registered:
                store.names.delete(name)

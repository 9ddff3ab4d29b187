"""Networks that nothing uses any more: their names go, and garbage collection takes the rest."""

from collections.abc import Collection, Iterator, Mapping

from object_store.digest import Digest
from object_store.opening import Store
from planner.names import EXACTS, FAMILIES, VARIANTS, variant_name
from planner.networks.families.members import variants
from planner.networks.records import Variant


def forget_unused(store: Store, used: Collection[str]) -> tuple[str, ...]:
    """Forget all registered networks but those in `used` (digests) and the bases they are kept against.

    Returns what was forgotten, sorted; records of another version of Lightbox stay. Within a `turn` of the
    store. Cut short at any point it leaves no network half known. Raises: StoreError.
    """
    known = variants(store)
    forgotten = unused_networks(known, used)
    # Members first, and of each network first the name without which it counts as not registered at all:
    # whoever brings it again then writes everything anew.
    for network in sorted(forgotten, key=lambda digest: known[digest].family == digest):
        digest = Digest.parse(network)
        store.names.delete(variant_name(digest.sha256))
        store.names.forget_tags([digest])  # a base no longer found is no longer joined
    _forget_leftovers(store)
    return forgotten


def unused_networks(known: Mapping[str, Variant], used: Collection[str]) -> tuple[str, ...]:
    """Those of `known` that are neither in `used` nor the base of one that is; digests, sorted."""
    needed = {known[network].family for network in used if network in known} | set(used)
    return tuple(sorted(known.keys() - needed))


def names_forgotten(store: Store, forgotten: Collection[str]) -> frozenset[str]:
    """The names that `forget_unused` deletes where it forgets these networks (digests).

    Raises: StoreError.
    """
    own = {variant_name(Digest.parse(network).sha256) for network in forgotten}
    left = {name.removeprefix(VARIANTS) for name in store.names.items(VARIANTS).keys() - own}
    return frozenset(own.union(_leftovers(store, left)))


def _forget_leftovers(store: Store) -> None:
    registered = {name.removeprefix(VARIANTS) for name in store.names.items(VARIANTS)}
    for name in _leftovers(store, registered):
        store.names.delete(name)


def _leftovers(store: Store, registered: Collection[str]) -> Iterator[str]:
    """Families and exact numbers of networks that are not among `registered` (sha256), by name."""
    for prefix in (FAMILIES, EXACTS):
        for name in store.names.items(prefix):
            if name.rpartition("/")[2] not in registered:
                yield name

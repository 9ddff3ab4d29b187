"""Networks by themselves: added without a pipeline, listed, and forgotten once nobody uses them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from object_store.digest import Digest
from object_store.opening import Store
from planner.live import live_plans
from planner.names import FAMILIES, GATES, NETWORKS, PRECISIONS, network_name, variant_name
from planner.networks.bind import networks_in
from planner.networks.families.admit import admitted
from planner.networks.families.forget import forget_unused
from planner.networks.families.members import variants
from planner.networks.families.register import REGISTERED, Registration
from planner.networks.records import Variant
from planner.references import needs
from planner.turn import turn


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNetwork:
    """A network of the store. family: digest of the base it is a variant of, itself for a base.

    kept: how many of its tensors differ from the base's, by the way they are kept. exact: it computes with
    the numbers that were imported, not with numbers close to them.
    """

    network: str
    names: tuple[str, ...]
    pipelines: tuple[str, ...]
    family: str
    kept: dict[str, int]
    exact: bool
    verified: bool


def add_network(store: Store, file: Path, name: str) -> Registration:
    """Open a network file, keep it, and let `network/<name>` stand for it.

    Raises: NetworkRefused, NotOpenable, StoreError.
    """
    from planner.networks.reading.opening import open_network

    return admitted(store, file, open_network(file), name=network_name(name))


def known_networks(store: Store) -> tuple[KnownNetwork, ...]:
    """Every network of the store, families together, the base first. Raises: StoreError."""
    names: dict[str, list[str]] = {}
    for name, digest in store.names.items(NETWORKS).items():
        names.setdefault(str(digest), []).append(name.removeprefix(NETWORKS))
    plans = live_plans(store)
    users = networks_in(plans)
    known = [
        KnownNetwork(
            network=variant.network,
            names=tuple(names.get(variant.network, ())),
            pipelines=tuple(sorted({plans[p].pipeline for p in users.get(variant.network, ())})),
            family=variant.family,
            kept=dict(sorted(Counter(variant.kept.values()).items())),
            exact=variant.exact,
            verified=bool(variant.verified and variant.verified.passed),
        )
        for variant in variants(store).values()
    ]
    return tuple(sorted(known, key=lambda k: (k.family, k.network != k.family, k.names, k.network)))


def forget_networks(
    store: Store, older_than_s: float, *, clock: Callable[[], float] = time.time
) -> tuple[str, ...]:
    """Drop the names of networks that no plan and no name leads to; garbage collection then frees them.

    Plans that a name stood for before count, as one may roll back to them, and so do plans of another
    version of Lightbox. Networks registered in the last seconds, for the first time or again, are spared, as
    their plan may be about to be named. Returns the digests of those forgotten. Takes a `turn` of the store:
    nothing is registered between looking and forgetting.
    Raises: ObjectMissing for a plan that a name stands for, as what it uses is unknown then; StoreError.
    """
    since = clock() - older_than_s
    with turn(store):
        used = set(_used(store)) | set(_registered_since(store, variants(store), since))
        forgotten = forget_unused(store, used)
        _forget_findings(store)
    return forgotten


def _forget_findings(store: Store) -> None:
    """Drop what was found about families that are gone, and how plans did that no name leads to."""
    plans = {digest.sha256 for digest in store.names.roots()}
    bases = {name.rpartition("/")[2] for name in store.names.items(FAMILIES)}
    for name in store.names.items(GATES):
        if name.split("/")[2] not in plans:
            store.names.delete(name)
    for name in store.names.items(PRECISIONS):
        if name.rpartition("/")[2] not in bases:
            store.names.delete(name)


def _used(store: Store) -> Iterator[str]:
    """Digests of networks with a name of their own, and of all that plans under any name need or needed."""
    yield from (str(digest) for digest in store.names.items(NETWORKS).values())
    for root in store.names.roots():
        yield from (str(needed) for needed in needs(root, store.objects.get(root)))


def _registered_since(store: Store, known: Mapping[str, Variant], since_s: float) -> Iterator[str]:
    """Networks that somebody brought after `since_s` (seconds since 1970)."""
    again = {str(digest): float(at_s) for digest, at_s in store.names.tagged(REGISTERED).items()}
    for network in known:
        kept = store.names.history(variant_name(Digest.parse(network).sha256))
        if max(kept[-1].set_at.timestamp(), again.get(network, 0.0)) > since_s:
            yield network

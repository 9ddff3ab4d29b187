"""Networks by themselves: added without a pipeline, listed, and forgotten once nobody uses them."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from object_store.digest import Digest
from object_store.opening import Store
from planner.live import live_plans
from planner.names import FAMILIES, GATES, NETWORKS, PRECISIONS, network_name, variant_name
from planner.networks.bind import networks_in
from planner.networks.errors import NameTaken
from planner.networks.families.admit import admitted
from planner.networks.families.differing import differs_in
from planner.networks.families.forget import forget_unused, names_forgotten, unused_networks
from planner.networks.families.members import variants
from planner.networks.families.register import REGISTERED, Registration
from planner.networks.keeping import NetworkReader, network_digest
from planner.networks.records import Variant
from planner.references import needs
from planner.turn import turn


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNetwork:
    """A network of the store. family: digest of the base it is a variant of, itself for a base.

    kept: how many of its tensors differ from the base's, by the way they are kept, and `lifted`. exact: it
    computes with the numbers that were imported, not with numbers close to them.
    """

    network: str
    names: tuple[str, ...]
    pipelines: tuple[str, ...]
    family: str
    kept: dict[str, int]
    exact: bool
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenNetwork:
    """A network that no plan and no name uses. family: digest of its base, itself for a base.

    family_names: what the base is called; names_before: names that stood for the network and now do for
    another.
    """

    network: str
    family: str
    family_names: tuple[str, ...]
    names_before: tuple[str, ...]


def add_network(store: Store, file: Path, name: str, *, move: bool = False) -> Registration:
    """Open a network file, keep it, and let `network/<name>` stand for it.

    move: let the name do so even if another network was added under it. What is kept of a network that was
    known already is looked at, and put back from the file where the store has lost it.
    Raises: NameTaken, and nothing is kept then; NetworkRefused, NotOpenable; NetworkDamaged; StoreError.
    """
    from planner.networks.reading.opening import open_network

    opened = open_network(file)
    held = store.names.get(network_name(name))
    if held is not None and not move and held != network_digest(opened):
        raise NameTaken(name, str(held))
    done = admitted(store, file, opened, name=network_name(name))
    reader = NetworkReader(store.objects, store.names)
    variant = reader.variant(done.network)
    assert variant is not None  # it was registered just now
    return replace(done, kept=differs_in(reader, variant))


def known_networks(store: Store) -> tuple[KnownNetwork, ...]:
    """Every network of the store, families together, the base first. Raises: StoreError."""
    names = _called(store)
    plans, reader = live_plans(store), NetworkReader(store.objects, store.names)
    users = networks_in(plans)
    known = [
        KnownNetwork(
            network=variant.network,
            names=names.get(variant.network, ()),
            pipelines=tuple(sorted({plans[p].pipeline for p in users.get(variant.network, ())})),
            family=variant.family,
            kept={} if variant.network == variant.family else differs_in(reader, variant),
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


@dataclass(frozen=True, slots=True)
class Forgettable:
    """What `forget_networks` would do: the networks it would forget, and all names it would delete."""

    networks: tuple[ForgottenNetwork, ...]
    names: frozenset[str]


def forgettable(store: Store, older_than_s: float, *, clock: Callable[[], float] = time.time) -> Forgettable:
    """What `forget_networks` would forget now. Changes nothing and takes no turn. Raises: as that does."""
    since = clock() - older_than_s
    known = variants(store)
    networks = unused_networks(known, set(_used(store)) | set(_registered_since(store, known, since)))
    names = names_forgotten(store, networks)
    names |= frozenset(_stale_findings(store, names))
    called, before = _called(store), _called_before(store)
    return Forgettable(
        tuple(
            ForgottenNetwork(
                network=network,
                family=known[network].family,
                family_names=called.get(known[network].family, ()),
                names_before=before.get(network, ()),
            )
            for network in networks
        ),
        names,
    )


def _called(store: Store) -> dict[str, tuple[str, ...]]:
    """By network: the names it was added under."""
    names: dict[str, list[str]] = {}
    for name, digest in store.names.items(NETWORKS).items():
        names.setdefault(str(digest), []).append(name.removeprefix(NETWORKS))
    return {network: tuple(found) for network, found in names.items()}


def _called_before(store: Store) -> dict[str, tuple[str, ...]]:
    """By network: names that stood for it, and stand for another now."""
    names: dict[str, list[str]] = {}
    for name, now in store.names.items(NETWORKS).items():
        for digest in {record.digest for record in store.names.history(name)} - {now}:
            names.setdefault(str(digest), []).append(name.removeprefix(NETWORKS))
    return {network: tuple(found) for network, found in names.items()}


def _forget_findings(store: Store) -> None:
    for name in tuple(_stale_findings(store)):
        store.names.delete(name)


def _stale_findings(store: Store, without: Collection[str] = ()) -> Iterator[str]:
    """Names of what was found about families that are gone, and how plans did that no name leads to.

    without: names that are passed over, as if they had been deleted.
    """
    plans = {digest.sha256 for digest in store.names.roots(without)}
    bases = {name.rpartition("/")[2] for name in store.names.items(FAMILIES) if name not in without}
    yield from (name for name in store.names.items(GATES) if name.split("/")[2] not in plans)
    yield from (name for name in store.names.items(PRECISIONS) if name.rpartition("/")[2] not in bases)


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

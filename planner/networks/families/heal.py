"""Puts back what a store has lost of a network, from the network's own file."""

import math

from object_store.digest import BytesLike, Digest
from object_store.opening import Store
from planner.names import EXACTS, FAMILIES, VARIANTS, exact_name, family_name, variant_name
from planner.networks.errors import NetworkDamaged
from planner.networks.families.bases import base_objects
from planner.networks.families.lost import Sound, base_of, damaged_networks, hashed, lost_objects
from planner.networks.keeping import large_tensors, raw_bytes, record_objects
from planner.networks.structure import Opened
from planner.turn import turn


def heal(store: Store, opened: Opened) -> Digest:
    """Put what this network consists of wherever the store's networks lack it; returns its digest.

    Reads and hashes all networks of the store. A variant whose own records are lost counts as not registered
    then, so that registering it writes them anew; it is to be verified anew as well. Takes a `turn` of the
    store. Raises: StoreError.
    """
    network, parts = _parts(opened)
    structure = Digest.of(opened.structure.to_bytes())
    with turn(store):
        names = store.names.items
        roots = [digest for prefix in (VARIANTS, EXACTS, FAMILIES) for digest in names(prefix).values()]
        # Only what is named is put: a variant's tensors, for one, are not to lie about in full.
        for digest in lost_objects(store, roots, hashed(store)):
            if digest in parts:
                store.objects.put(parts[digest])
        is_base = store.names.get(family_name(structure.sha256, network.sha256)) is not None
        damaged = [] if is_base else damaged_networks(store, hashed(store), [network.sha256])
        if damaged:
            # Registering does not write what seems to be there, and damaged bytes are of no use to anyone.
            with store.objects.exclusive():
                store.objects.discard(damaged[0].lost, unused_since_s=math.inf)
            for name in (variant_name(network.sha256), exact_name(network.sha256)):
                if store.names.get(name) is not None:
                    store.names.delete(name)
    return network


def check_whole(store: Store, network: Digest, sound: Sound) -> None:
    """Look at all that a network is kept by, its base's parts included.

    Raises: NetworkDamaged, naming whose parts are gone or damaged; StoreError.
    """
    asked = {network.sha256}
    record = store.names.get(variant_name(network.sha256))
    if record is not None and (base := base_of(store, record, sound)) is not None:
        asked.add(base.sha256)
    if damaged := damaged_networks(store, sound, asked):
        raise NetworkDamaged(map(str, damaged))


def _parts(opened: Opened) -> tuple[Digest, dict[Digest, BytesLike]]:
    """The network's digest, and every object that it, or it as a base, is kept by."""
    large = large_tensors(opened)
    weights = {name: Digest.of(raw_bytes(array)) for name, array in large.items()}
    network, objects = record_objects(opened, weights)
    tensors = {name: array for name, _, array in opened.typed_tensors()}
    as_base = base_objects(opened.structure, tensors, weights, network)
    return network, {
        **objects,
        **as_base.objects,
        **{weights[name]: raw_bytes(array) for name, array in large.items()},
    }

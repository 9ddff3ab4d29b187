"""What a store holds: bytes by kind, and what each network costs in it against what it would cost alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from object_store.digest import Digest
from object_store.errors import ObjectCorrupt, ObjectMissing
from object_store.local import LocalStore
from object_store.opening import Store
from planner import binding, plan
from planner.networks import records
from planner.networks.families.known import forgettable
from planner.networks.sharing import KeptNetwork, kept_networks, opaque_files
from planner.networks.structure import FORMAT as STRUCTURE_FORMAT
from planner.stored_records import (
    KINDS,
    Kind,
    KnownRecords,
    StoredRecord,
    parts_of,
    reached,
    stored_record,
)

_RECORDS = {
    records.NETWORK_FORMAT,
    records.FAMILY_FORMAT,
    records.VARIANT_FORMAT,
    records.EXACT_FORMAT,
}


@dataclass(frozen=True, slots=True)
class Amount:
    """unused_bytes: what `lightbox store gc` would delete if nothing were too young: objects that no name
    leads to, or only names of networks that no plan and no other name uses."""

    objects: int = 0
    bytes: int = 0
    unused_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """kinds: every kind, also empty ones."""

    kinds: Mapping[Kind, Amount]
    networks: tuple[KeptNetwork, ...]
    """Those that add most first."""
    shared_bytes: int
    """Of objects that several networks are kept by."""
    index_bytes: int
    """Of the file that holds names and tags, fingerprints of networks among them."""

    @property
    def objects(self) -> int:
        return sum(amount.objects for amount in self.kinds.values())

    @property
    def bytes(self) -> int:
        return sum(amount.bytes for amount in self.kinds.values())

    @property
    def logical_bytes(self) -> int:
        """What the networks would take, each by its own file."""
        return sum(network.alone_bytes for network in self.networks)

    @property
    def physical_bytes(self) -> int:
        """What the networks take; builds, which are made of them, are left out (see `kinds`)."""
        return self.shared_bytes + sum(network.adds_bytes for network in self.networks)


def store_stats(store: Store) -> StoreStats:
    """Count every object once. Reads records, not tensors. Raises: StoreError."""
    objects = LocalStore(store.objects.root)  # damage is for `store verify` to find
    known = {digest: stored_record(objects, digest) for digest in objects}
    used = reached(store.names.roots(without=_names_to_go(store)), known)
    opaque = set(opaque_files(known))
    kinds = _kinds(known, opaque)
    amounts: dict[Kind, Amount] = dict.fromkeys(KINDS, Amount())
    for digest in known:
        kind = kinds.get(digest, "other")
        so_far = amounts[kind]
        unused = 0 if digest in used else digest.size
        amounts[kind] = Amount(so_far.objects + 1, so_far.bytes + digest.size, so_far.unused_bytes + unused)
    networks, shared = kept_networks(store, known)
    index = sum(file.stat().st_size for file in store.names.path.parent.glob(f"{store.names.path.name}*"))
    return StoreStats(kinds=amounts, networks=networks, shared_bytes=shared, index_bytes=index)


def _names_to_go(store: Store) -> frozenset[str]:
    """Names that garbage collection deletes, however young; none where it would refuse to."""
    try:
        return forgettable(store, -math.inf).names
    except (ObjectMissing, ObjectCorrupt):
        return frozenset()


def _kinds(known: KnownRecords, opaque: set[Digest]) -> dict[Digest, Kind]:
    """The kind of every object that a record is or speaks of; the first in KINDS if several speak of it."""
    found: dict[Digest, Kind] = {}
    for digest, record in known.items():
        if record is not None and (kind := _kind_of_record(record)):
            found[digest] = kind
    for record in known.values():
        for digest, kind in parts_of(record) if record else ():
            if KINDS.index(found.get(digest, "other")) > KINDS.index(kind):
                found[digest] = kind
    for digest in opaque:
        found.setdefault(digest, "opaque networks")
    return found


def _kind_of_record(record: StoredRecord) -> Kind | None:
    if record.format in _RECORDS:
        return "records"
    by_format: dict[str, Kind] = {
        records.BUILD_FORMAT: "builds",
        STRUCTURE_FORMAT: "structures",
        plan.FORMAT: "plans",
        binding.FORMAT: "bindings",
        "series": "series",
    }
    return by_format.get(record.format)

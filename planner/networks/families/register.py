"""Registering: a network enters the store, against the base it is a variant of. No session is built."""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from object_store.digest import BytesLike, Digest
from object_store.errors import ObjectMissing
from object_store.opening import Store
from planner.errors import Unreadable
from planner.names import exact_name, family_name, variant_name
from planner.networks.families.bases import (
    Base,
    known_bases,
    npz,
    put_base,
    put_missing,
    read_base,
    weights_key,
)
from planner.networks.families.filters import Filter, filters_of
from planner.networks.families.fingerprint import ALIKE, fingerprint, likeness
from planner.networks.families.members import Comparison, compare, readable_variant, with_member
from planner.networks.families.unfold import bits_of, packed_residual
from planner.networks.keeping import NetworkReader, is_large, raw_bytes, record_objects
from planner.networks.records import Exact, Family, Variant
from planner.networks.structure import Opened, Structure
from planner.turn import turn

Array = NDArray[Any]
_Bytes = TypeVar("_Bytes", bound=BytesLike)

_THREADS = 4  # more than cores: writing waits for the disk

_HASHING = max(1, min(4, len(os.sched_getaffinity(0)) - 1))
"""Threads that hash. One core is left to comparing, which what is written last waits for."""

_COMPARED = 3
"""Bases that a network is compared with in full, at most: the nearest by fingerprint."""

REGISTERED = "registered"
"""The tag of a network that was brought again; its value says when last (seconds since 1970)."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What registering a network did.

    kept: how many of its tensors are kept in which way of `Keeping`, and `lifted`. bytes_added: of objects
    that the store did not hold before.
    """

    network: Digest
    family: Digest
    kept: Mapping[str, int]
    new_base: bool
    bytes_added: int


def register(
    store: Store, opened: Opened, *, name: str = "", admit: Callable[[], None] | None = None
) -> Registration:
    """Put a network into the store as a variant of the base that it is like, or as a base of its own.

    The digest depends on the network alone; which family it joins depends on what was registered before.
    One that is registered already counts as brought now, see `forget_networks`.
    name: a name of the store that is to stand for the network, from the same turn on.
    admit: called, outside of any turn, before the network becomes a new base; what it raises is raised, and
    nothing is registered then.
    Takes a `turn` of the store, so not to be called within one. Raises: StoreError.
    """
    candidate = _Candidate(opened)

    def in_turn(*, may_be_base: bool) -> Registration | None:
        with (
            turn(store),
            ThreadPoolExecutor(_THREADS) as threads,
            ThreadPoolExecutor(_HASHING) as hashing,
        ):
            done = _Registering(store, candidate, threads, hashing).run(may_be_base)
            if done is not None and name:
                store.names.set(name, done.network)
            return done

    if admit is not None:
        if done := in_turn(may_be_base=False):
            return done
        admit()
    done = in_turn(may_be_base=True)
    assert done is not None
    return done


class _Candidate:
    """A network about to be registered, with what is computed from it once."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.structure: Structure = opened.structure
        self.structure_sha256 = Digest.of(opened.structure.to_bytes()).sha256
        self.filters: dict[str, Filter] = filters_of(opened.structure)
        self.tensors: dict[str, Array] = {n: np.ascontiguousarray(a) for n, _, a in opened.typed_tensors()}
        self.large = [name for name in self.tensors if is_large(opened.structure, name)]
        self.fingerprint = fingerprint(self.filters, self.tensors)
        self.hashes: dict[str, Future[Digest]] = {}


class _Registering:
    """One registration, within a turn of the store."""

    def __init__(
        self,
        store: Store,
        candidate: _Candidate,
        threads: ThreadPoolExecutor,
        hashing: ThreadPoolExecutor,
    ) -> None:
        self._store, self._new, self._threads, self._hashing = store, candidate, threads, hashing
        self._reader = NetworkReader(store.objects, store.names)
        self._hashes = candidate.hashes

    def run(self, may_be_base: bool) -> Registration | None:
        """None if the network is new, would be a base, and may not."""
        known = known_bases(self._store, self._new.structure_sha256)
        scores = likeness([base.fingerprint for base in known], self._new.fingerprint)
        ranked = sorted(zip(scores, known, strict=True), key=lambda pair: (-pair[0], pair[1].network))
        alike = [base.network for score, base in ranked[:_COMPARED] if score >= ALIKE]
        others = (  # many bases alike: that with the very same large tensors, if any
            base.network for _, base in ranked[_COMPARED:] if base.weights == self._own_weights()
        )
        partly: list[tuple[Base, Comparison]] = []
        for network in chain(alike, others):
            if (compared := self._compared(network)) is None:
                continue
            if not compared[1].stored:
                return self._as_variant_of(*compared)
            partly.append(compared)
        if partly:
            return self._as_variant_of(*min(partly, key=lambda pair: sum(pair[1].stored.values())))
        return self._as_base(may_be_base)

    def _compared(self, network: Digest) -> tuple[Base, Comparison] | None:
        """How the new network can be kept against this base; None if it cannot."""
        base = self._base(network)
        found = base and compare(
            self._new.structure, self._new.filters, base, self._new.tensors, self._start_hashing
        )
        return (base, found) if base and found else None

    def _as_variant_of(self, base: Base, found: Comparison) -> Registration:
        network = base.network
        packing = self._threads.submit(_residuals_of, found)  # while others still hash
        weights = {
            name: self._hashes[name].result() if name in self._hashes else base.weights[name]
            for name in self._new.large
        }
        digest, objects = record_objects(self._new.opened, weights)
        if known := self._registered(digest):
            return known
        extra = _by_digest(npz(found.extra) if found.extra else b"")
        variant = Variant(
            network=str(digest),
            family=str(network),
            kept=found.kept,
            tensors={name: str(weights[name]) for name in found.stored},
            extra="".join(map(str, extra)),
            exact=found.exact,
            tolerance=found.tolerance,
        )
        exact, imported = self._imported(digest, found, packing.result(), weights)
        records = {
            **self._grown(network, found),
            **exact,
            variant_name(digest.sha256): variant.to_bytes(),
        }
        named = {name: Digest.of(data) for name, data in records.items()}
        stored = {weights[name]: raw_bytes(self._new.tensors[name]) for name in found.stored}
        written: dict[Digest, BytesLike] = {
            **objects,
            **extra,
            **{named[name]: data for name, data in records.items()},
            **imported,
            **stored,
        }
        added = put_missing(self._store, written, self._threads)
        self._store.names.set_all(named)  # together: each costs a wait for the disk
        kept = Counter[str](found.kept.values()) + Counter({"lifted": len(found.lifted)})
        return Registration(digest, network, dict(kept), False, added)

    def _as_base(self, may_be_base: bool) -> Registration | None:
        new = self._new
        weights = {name: self._hash_of(name).result() for name in new.large}
        digest, objects = record_objects(new.opened, weights)
        if known := self._registered(digest):
            return known
        if not may_be_base:
            return None
        added = put_base(
            self._store, new.structure, new.tensors, weights, objects, digest, threads=self._threads
        )
        return Registration(digest, digest, {"stored": len(new.large)}, True, added)

    def _registered(self, network: Digest) -> Registration | None:
        variant = readable_variant(self._reader, network)
        if variant is None:
            return None
        self._store.names.tag(network, REGISTERED, repr(time.time()))
        family = Digest.parse(variant.family)
        kept = Counter[str](variant.kept.values())
        if variant.family == variant.network:
            kept["stored"] = len(variant.tensors)
        return Registration(network, family, dict(kept), False, 0)

    def _base(self, network: Digest) -> Base | None:
        """None if the store no longer holds this family, or as another version of Lightbox wrote it."""
        with suppress(ObjectMissing, Unreadable):
            named = self._store.names.get(family_name(self._new.structure_sha256, network.sha256))
            if named is None:
                return None
            self._reader.read(named, Family)
            return read_base(self._reader, network, self._new.structure, self._new.filters)
        return None

    def _grown(self, base: Digest, found: Comparison) -> dict[str, bytes]:
        """The record of the base's family by its name, if this member makes it another."""
        name = family_name(self._new.structure_sha256, base.sha256)
        named = self._store.names.get(name)
        assert named is not None  # `_base` found it, and the turn is ours
        family: Family = self._reader.read(named, Family)
        grown = with_member(family, found, self._new.structure)
        return {} if grown == family else {name: grown.to_bytes()}

    def _imported(
        self, network: Digest, found: Comparison, pack: "_Pack", weights: Mapping[str, Digest]
    ) -> tuple[dict[str, bytes], dict[Digest, BytesLike]]:
        """The `Exact` of an inexact variant by its name, and what it refers to; nothing for an exact one."""
        if found.exact:
            return {}, {}
        record = Exact(
            network=str(network),
            residual="".join(map(str, pack.objects)),
            bits=pack.bits,
            tensors={name: str(weights[name]) for name in found.whole},
        )
        whole = {weights[name]: raw_bytes(self._new.tensors[name]) for name in found.whole}
        return {exact_name(network.sha256): record.to_bytes()}, {**pack.objects, **whole}

    def _start_hashing(self, name: str) -> None:
        self._hash_of(name)

    def _hash_of(self, name: str) -> Future[Digest]:
        """Hashing lets other threads run: it goes on while tensors are compared."""
        if name not in self._hashes:
            self._hashes[name] = self._hashing.submit(Digest.of, raw_bytes(self._new.tensors[name]))
        return self._hashes[name]

    def _own_weights(self) -> str:
        weights = {name: self._hash_of(name) for name in self._new.large}
        return weights_key({name: hashed.result() for name, hashed in weights.items()})


def _by_digest(data: _Bytes) -> dict[Digest, _Bytes]:
    """Nothing for no bytes."""
    return {Digest.of(data): data} if len(data) else {}


@dataclass(frozen=True, slots=True)
class _Pack:
    """See `Exact.residual` and `Exact.bits`."""

    objects: dict[Digest, BytesLike]
    bits: dict[str, int]


def _residuals_of(found: Comparison) -> _Pack:
    bits = {name: bits_of(residual) for name, residual in found.residual.items()}
    pieces = [packed_residual(residual, bits[name]) for name, residual in found.residual.items()]
    return _Pack(_by_digest(np.concatenate(pieces).data if pieces else b""), bits)

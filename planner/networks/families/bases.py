"""Bases: networks kept in full, which others are kept against."""

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from object_store.digest import BytesLike, Digest
from object_store.opening import Store
from planner.canonical import identity
from planner.names import family_name, variant_name
from planner.networks.families.filters import Filter, filters_of
from planner.networks.families.fingerprint import fingerprint
from planner.networks.families.unfold import peaks
from planner.networks.keeping import NetworkReader, raw_bytes, unpacked_small
from planner.networks.records import Family, Variant, Verification
from planner.networks.structure import Structure

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Base:
    """The base of a family, as far as other networks are compared with it.

    weights: digests of its large tensors; peaks: of its filters, see `unfold.peaks`.
    """

    network: Digest
    weights: Mapping[str, Digest]
    tensors: Mapping[str, Array]
    peaks: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class KnownBase:
    """What is known of a base without reading it. weights: `weights_key` of its large tensors."""

    network: Digest
    weights: str
    fingerprint: str


def known_bases(store: Store, structure_sha256: str) -> list[KnownBase]:
    """The bases of a structure, in one question to the database."""
    tagged = store.names.tagged(_tag(structure_sha256))
    parts = {network: text.partition(" ") for network, text in tagged.items()}
    return [KnownBase(network, weights, told) for network, (weights, _, told) in parts.items()]


def read_base(
    reader: NetworkReader, network: Digest, structure: Structure, filters: Mapping[str, Filter]
) -> Base | None:
    """The base, its large tensors views of the store's files; None if it was not registered to its end.

    Raises: StoreError.
    """
    variant = reader.variant(network)
    if variant is None:
        return None
    weights = reader.weights(network)
    pack = reader.objects.get(Digest.parse(reader.record(network).small))
    tensors = unpacked_small(structure, pack)
    tensors |= {name: reader.large(structure, name, digest) for name, digest in weights.items()}
    places = reader.arrays(variant)["peaks"]
    found, start = {}, 0
    for filter_ in filters.values():
        found[filter_.name] = places[start : start + filter_.channels]
        start += filter_.channels
    return Base(network, weights, tensors, found)


def put_base(
    store: Store,
    structure: Structure,
    tensors: Mapping[str, Array],
    weights: Mapping[str, Digest],
    objects: Mapping[Digest, BytesLike],
    network: Digest,
    threads: ThreadPoolExecutor,
    verified: Verification | None = None,
) -> int:
    """Keep a network in full and name it the base of a family; within a turn. Returns the bytes added.

    tensors: all, contiguous; weights: digests of the large ones; objects: of `keeping.record_objects`.
    verified: why it does not stay in the family it was in.
    """
    structure_digest = Digest.of(structure.to_bytes())
    records = base_objects(structure, tensors, weights, network, verified)
    large = {digest: raw_bytes(tensors[name]) for name, digest in weights.items()}
    added = put_missing(store, {**objects, **large, **records.objects}, threads)
    told = fingerprint(filters_of(structure), tensors)
    store.names.tag(network, _tag(structure_digest.sha256), f"{weights_key(weights)} {told}")
    store.names.set(family_name(structure_digest.sha256, network.sha256), records.family)
    store.names.set(variant_name(network.sha256), records.variant)  # last: from here on it is registered
    return added


@dataclass(frozen=True, slots=True)
class BaseRecords:
    """What a base without members is kept by, beside `keeping.record_objects` and its large tensors.

    family, variant: digests of the records; objects: these and the peaks of its filters.
    """

    family: Digest
    variant: Digest
    objects: Mapping[Digest, bytes]


def base_objects(
    structure: Structure,
    tensors: Mapping[str, Array],
    weights: Mapping[str, Digest],
    network: Digest,
    verified: Verification | None = None,
) -> BaseRecords:
    """The records of a network as a base. Arguments: as of `put_base`."""
    places = [peaks(filter_, tensors[filter_.name]) for filter_ in filters_of(structure).values()]
    extra = npz({"peaks": np.concatenate([np.empty(0, np.int64), *places])})
    family = Family(structure=str(Digest.of(structure.to_bytes())), base=str(network)).to_bytes()
    variant = Variant(
        network=str(network),
        family=str(network),
        tensors={name: str(digest) for name, digest in weights.items()},
        extra=str(Digest.of(extra)),
        verified=verified,
    ).to_bytes()
    objects = {Digest.of(data): data for data in (extra, family, variant)}
    return BaseRecords(Digest.of(family), Digest.of(variant), objects)


def put_missing(store: Store, objects: Mapping[Digest, BytesLike], threads: ThreadPoolExecutor) -> int:
    """Put those of the objects that the store lacks, several at a time; returns their bytes.

    What is written in parallel waits for the disk together.
    """
    missing = store.objects.missing(objects)
    list(threads.map(store.objects.put, (objects[digest] for digest in missing)))
    return sum(digest.size for digest in missing)


def weights_key(weights: Mapping[str, Digest]) -> str:
    """Equal for networks of one structure exactly when all their large tensors are equal."""
    return identity({name: str(digest) for name, digest in weights.items()})


def npz(arrays: Mapping[str, Array]) -> bytes:
    """Equal arrays, equal bytes: the files inside bear no time."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **dict(sorted(arrays.items())))
    return file.getvalue()


def _tag(structure_sha256: str) -> str:
    return f"fingerprint/{structure_sha256}"

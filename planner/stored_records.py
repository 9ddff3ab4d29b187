"""The objects in a store that are records of ours, and what they speak of."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from object_store.digest import Digest
from object_store.errors import StoreError
from object_store.local import LocalStore
from planner.networks import records
from planner.references import references

Kind: TypeAlias = Literal[
    "tensors",
    "differences",
    "packs",
    "structures",
    "records",
    "builds",
    "opaque networks",
    "plans",
    "bindings",
    "series",
    "other",
]
"""tensors: large learned tensors; differences: what variants add to their base (factors, low-rank, sparse,
residuals); packs: small tensors of a network each; records: how networks are kept; builds: compiled forms,
which can be made again; opaque networks: graphs and parameter files that were not opened; series: images of
golden cases; other: measured costs, results of checks, expected masks, and what is not Lightbox's."""

KINDS: tuple[Kind, ...] = get_args(Kind)

KnownRecords: TypeAlias = Mapping[Digest, "StoredRecord | None"]
"""Every object of a store; None for plain bytes."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """What a record of ours says: its format, its fields, and what it refers to."""

    format: str
    fields: Mapping[str, Any]
    refers: tuple[Digest, ...]


def stored_record(objects: LocalStore, digest: Digest) -> StoredRecord | None:
    """None for bytes that are no record, which is told by how they begin."""
    if digest.size == 0 or bytes(objects.map(digest)[:1]) != b"{":
        return None
    data = objects.get(digest)
    try:
        fields = json.loads(data)
        refers = tuple(references(digest, data))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, StoreError):
        return None  # somebody else's JSON
    if data.startswith(b'{"series":['):
        return StoredRecord("series", fields, refers)
    return StoredRecord(str(fields.get("format", "")), fields, refers)


def reached(roots: Iterable[Digest], known: KnownRecords) -> set[Digest]:
    found: set[Digest] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            record = known.get(digest)
            waiting.extend(record.refers if record else ())
    return found


def parts_of(record: StoredRecord) -> Iterator[tuple[Digest, Kind]]:
    """The plain bytes that a record speaks of."""
    fields, named = record.fields, list[tuple[str, Kind]]()
    match record.format:
        case records.NETWORK_FORMAT:
            named = [(fields["small"], "packs"), (fields["weights"], "records")]
        case records.VARIANT_FORMAT:
            named = [(fields["extra"], "differences"), *((text, "tensors") for text in _tensors(record))]
        case records.EXACT_FORMAT:
            named = [(fields["residual"], "differences"), *((text, "tensors") for text in _tensors(record))]
        case records.BUILD_FORMAT:
            blobs = (place["blob"] for place in fields["tensors"].values())
            named = [(fields["graph"], "builds"), *((blob, "builds") for blob in blobs)]
        case "series":
            named = [(text, "series") for text in fields["series"]]
    yield from ((Digest.parse(text), kind) for text, kind in named if text)


def _tensors(record: StoredRecord) -> Iterable[str]:
    return tuple(record.fields.get("tensors", {}).values())

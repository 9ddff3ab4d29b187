"""Where it is kept: bytes named by their digest, names and tags on top. Knows nothing of imaging."""

from object_store.collect import Collected, Finding, Problem, collect_garbage, verify
from object_store.digest import BytesLike, Digest
from object_store.errors import (
    DigestInvalid,
    NameUnknown,
    NothingToRollBackTo,
    ObjectCorrupt,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from object_store.local import LocalStore
from object_store.memory import MemoryStore
from object_store.names import NameRecord, Names
from object_store.opening import Store, open_store
from object_store.store import ObjectStore

__all__ = [
    "BytesLike",
    "Collected",
    "Digest",
    "DigestInvalid",
    "Finding",
    "LocalStore",
    "MemoryStore",
    "NameRecord",
    "NameUnknown",
    "Names",
    "NothingToRollBackTo",
    "ObjectCorrupt",
    "ObjectMissing",
    "ObjectStore",
    "Problem",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "collect_garbage",
    "open_store",
    "verify",
]

"""Looking after a store: find what is damaged, delete what nothing refers to."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from object_store.digest import Digest
from object_store.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable
from object_store.local import LocalStore
from object_store.names import Names

References: TypeAlias = Callable[[Digest, bytes], Iterable[Digest]]
"""The digests that an object's content speaks of. Only its writer knows; for plain bytes it is ()."""

GRACE_S = 3600.0
"""How long a writer may take from its first `put` to its name. A guess: compiling takes minutes."""

_BATCH = 256  # objects deleted per turn of the exclusive lock, so that writers wait milliseconds; a guess


class Problem(StrEnum):
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """An object that `get` would not give back."""

    digest: Digest
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a garbage collection did, or with `dry_run` would have done."""

    kept: int
    """Objects that a name leads to."""
    spared: int
    """Objects that no name leads to, put too recently to be deleted."""
    deleted: tuple[Digest, ...]
    abandoned_files: int
    """Half-written files of dead writers, removed."""

    @property
    def deleted_bytes(self) -> int:
        return sum(digest.size for digest in self.deleted)


def verify(
    store: LocalStore, *, checked: Callable[[Digest], None] = lambda digest: None
) -> Iterator[Finding]:
    """Read and hash every object from disk; yields only those that are damaged, as they are found.

    Args:
        checked: called after each object, for progress.
    """
    for digest in store:
        try:
            store.check(digest)
        except ObjectMissing:
            continue  # collected meanwhile
        except ObjectCorrupt:
            yield Finding(digest, Problem.DAMAGED)
        except StoreUnavailable:
            yield Finding(digest, Problem.UNREADABLE)
        checked(digest)


def reachable(store: LocalStore, roots: Iterable[Digest], references: References) -> set[Digest]:
    """`roots` and all that they refer to, directly or not.

    Every object on the way is hashed. Raises: ObjectMissing, ObjectCorrupt: what lies behind is unknown then.
    """
    found: set[Digest] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest in found:
            continue
        content = store.get(digest)
        if Digest.of(content) != digest:
            raise ObjectCorrupt(digest)
        found.add(digest)
        waiting.extend(references(digest, content))
    return found


def collect_garbage(
    store: LocalStore,
    names: Names,
    references: References,
    older_than_s: float = GRACE_S,
    *,
    clock: Callable[[], float] = time.time,
    dry_run: bool = False,
    without: Collection[str] = (),
) -> Collected:
    """Delete the objects that no name and no name's history leads to. Safe beside writers and readers.

    A writer puts its objects (or asks `missing` for them), then names them, all within `older_than_s`.
    Then nothing it needs is deleted: what it put is young, and a put during the deletion waits for it.
    If anything reachable is missing or damaged, nothing is deleted: heal it or delete its name first.

    without: names that are taken for deleted, with a dry run only: what deleting them as well would free.
    Raises: ObjectMissing, ObjectCorrupt, StoreUnavailable, and whatever `references` raises.
    """
    unused_since_s = clock() - older_than_s
    assert dry_run or not without, "a name that is there keeps what it stands for"
    needed = reachable(store, names.roots(without), references)
    unneeded = [digest for digest in store if digest not in needed]
    deleted: list[Digest] = []
    abandoned = 0
    if dry_run:
        deleted = [digest for digest in unneeded if store.unused_since(digest, unused_since_s)]
    else:
        for start in range(0, len(unneeded), _BATCH):
            with store.exclusive():
                gone = store.discard(unneeded[start : start + _BATCH], unused_since_s=unused_since_s)
                names.forget_tags(gone)
            deleted.extend(gone)
        with store.exclusive():
            abandoned = store.discard_incoming()
    return Collected(
        kept=len(needed),
        spared=len(unneeded) - len(deleted),
        deleted=tuple(deleted),
        abandoned_files=abandoned,
    )

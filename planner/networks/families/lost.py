"""What a store has lost of its networks: objects gone or damaged, and whose they are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from object_store.digest import Digest
from object_store.errors import ObjectCorrupt, ObjectMissing
from object_store.opening import Store
from planner.names import EXACTS, NETWORKS, VARIANTS
from planner.references import references

Sound = Callable[[Digest], bool]
"""Whether an object is there, and is what its digest promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedNetwork:
    """sha256: of the network, hexadecimal. names: those it was added under. lost: parts of its own, sorted;
    what a variant lacks because its base does is the base's."""

    sha256: str
    names: tuple[str, ...]
    lost: tuple[Digest, ...]

    def __str__(self) -> str:
        who = f"{' or '.join(self.names)} ({self.sha256[:12]})" if self.names else self.sha256[:12]
        count = len(self.lost)
        return f"of network {who} {count} object{'s are' if count > 1 else ' is'} gone or damaged"


def hashed(store: Store) -> Sound:
    """Reads and hashes each object, once however often it is asked."""
    known: dict[Digest, bool] = {}

    def sound(digest: Digest) -> bool:
        if digest not in known:
            try:
                store.objects.check(digest)
            except (ObjectMissing, ObjectCorrupt):
                known[digest] = False
            else:
                known[digest] = True
        return known[digest]

    return sound


def present(store: Store) -> Sound:
    """Looks only whether an object is there in full length."""
    return store.objects.__contains__


def lost_objects(
    store: Store, roots: Iterable[Digest], sound: Sound, passed_over: Iterable[Digest] = ()
) -> frozenset[Digest]:
    """Of `roots` and all that they refer to, what is not sound; what lies behind that is not known.

    passed_over: not looked at, nor what is behind them. Raises: StoreUnavailable.
    """
    seen, lost = set(passed_over), set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest in seen:
            continue
        seen.add(digest)
        if not sound(digest):
            lost.add(digest)
        elif digest.size and bytes(store.objects.map(digest)[:1]) == b"{":
            waiting.extend(references(digest, store.objects.get(digest)))
    return frozenset(lost)


def damaged_networks(store: Store, sound: Sound, only: Iterable[str] = ()) -> tuple[DamagedNetwork, ...]:
    """Registered networks that lack parts of their own, by sha256.

    only: look at these (sha256), and not at all. Raises: StoreError.
    """
    called: dict[str, list[str]] = {}
    for name, digest in store.names.items(NETWORKS).items():
        called.setdefault(digest.sha256, []).append(name.removeprefix(NETWORKS))
    chosen = frozenset(only)
    found = []
    for name, record in store.names.items(VARIANTS).items():
        network = name.removeprefix(VARIANTS)
        if chosen and network not in chosen:
            continue
        lost = _lost_of(store, network, record, sound)
        if lost:
            names = tuple(called.get(network, ()))
            found.append(DamagedNetwork(sha256=network, names=names, lost=tuple(sorted(lost, key=str))))
    return tuple(found)


def _lost_of(store: Store, network: str, record: Digest, sound: Sound) -> frozenset[Digest]:
    exact = store.names.get(f"{EXACTS}{network}")
    roots = [record, *([exact] if exact else [])]
    base = base_of(store, record, sound)
    others = [base] if base is not None and base.sha256 != network else []
    return lost_objects(store, roots, sound, passed_over=others)


def base_of(store: Store, record: Digest, sound: Sound) -> Digest | None:
    """The base that a network is kept against, by the digest of its Variant; None if that is lost."""
    if not sound(record):
        return None
    family = msgspec.json.decode(store.objects.get(record), type=dict[str, Any]).get("family")
    return Digest.parse(family) if isinstance(family, str) else None

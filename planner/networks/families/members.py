"""Families: what a network shares with the base of its structure, and which families a store holds."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from object_store.digest import Digest
from object_store.opening import Store
from planner.errors import Unreadable
from planner.names import FAMILIES, VARIANTS, families_prefix
from planner.networks.families.bases import Base
from planner.networks.families.filters import Filter
from planner.networks.families.low_rank import low_rank
from planner.networks.families.sparse import equal, sparse_difference
from planner.networks.families.unfold import unfold
from planner.networks.keeping import NetworkReader, is_large, merged_factor
from planner.networks.records import Family, Keeping, Variant
from planner.networks.structure import Structure

Array = NDArray[Any]
_Record = TypeVar("_Record", Family, Variant)

log = logging.getLogger(__name__)

SHARED = 0.5
"""At least this share of a member's filter bytes must be the base's (in one of the ways of `Keeping`). Where
more is lifted nothing would be saved, and small unrelated networks would run as one."""

PRIVATE = 0.1
"""At most this share of a member's bytes may be large tensors that it keeps in full.

Such a member has a session of its own and runs in fp32, while a base of its own may be tuned: worth it only
where nearly all is the base's. Tensors that are equal take no space twice either way.
"""


@dataclass(slots=True)
class Comparison:
    """How a network can be kept against a base. Fields as in `Variant`; what is not named is equal.

    lifted: small tensors that the family's stage must be fed. stored: bytes of large tensors that are like
    nothing in the base. residual: see `unfold.Unfolded`. whole: large tensors whose imported numbers only
    they themselves can give back.
    """

    kept: dict[str, Keeping] = field(default_factory=dict)
    lifted: list[str] = field(default_factory=list)
    extra: dict[str, Array] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    residual: dict[str, NDArray[np.int8]] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    exact: bool = True
    tolerance: float = 0.0

    def inexact(self, error: float) -> None:
        self.exact, self.tolerance = False, max(self.tolerance, error)


def compare(
    structure: Structure,
    filters: Mapping[str, Filter],
    base: Base,
    tensors: Mapping[str, Array],
    differs: Callable[[str], None] = lambda name: None,
) -> Comparison | None:
    """How a network of this structure can be kept against `base`; None if it is no variant of it.

    tensors: contiguous. differs: told of each large tensor that is not equal, as soon as that is known.
    """
    found = Comparison()
    names = structure.tensor_names()
    small = [name for name in names if not is_large(structure, name)]
    differing = [name for name in small if not equal(base.tensors[name], tensors[name])]
    unfolded = {name for name in differing if _scaled(found, filters.get(name), base, tensors, small=True)}
    lifted = {name for name in differing if name not in unfolded}
    all_bytes = sum(structure.tensors[name].nbytes for name in filters)
    own_bytes = sum(structure.tensors[name].nbytes for name in filters if name in lifted)
    if own_bytes > (1 - SHARED) * all_bytes:
        return None
    most_stored = PRIVATE * sum(tensor.nbytes for tensor in structure.tensors.values())
    for name in _differing(names, structure, base, tensors, differs):
        if not _kept_large(found, name, filters.get(name), base, tensors):
            found.kept[name], found.stored[name] = "stored", tensors[name].nbytes
            if sum(found.stored.values()) > most_stored:
                return None
    lifted |= _moved_factors(found, filters, base, tensors)
    found.lifted = [name for name in small if name in lifted]
    return found


def _differing(
    names: Iterable[str],
    structure: Structure,
    base: Base,
    tensors: Mapping[str, Array],
    differs: Callable[[str], None],
) -> list[str]:
    """Large tensors that are not the base's, all of them before any is looked at more closely."""
    found = []
    for name in names:
        if is_large(structure, name) and not equal(base.tensors[name], tensors[name]):
            differs(name)
            found.append(name)
    return found


def _kept_large(
    found: Comparison, name: str, filter_: Filter | None, base: Base, tensors: Mapping[str, Array]
) -> bool:
    was, now = base.tensors[name], tensors[name]
    if _scaled(found, filter_, base, tensors, small=False):
        return True
    if (few := sparse_difference(was, now)) is not None:
        found.kept[name] = "sparse"
        found.extra |= {f"{name}.indices": few.indices, f"{name}.values": few.values}
        return True
    if (thin := low_rank(was, now)) is not None:
        found.kept[name] = "low_rank"
        found.extra |= {f"{name}.left": thin.left, f"{name}.right": thin.right}
        found.ranks[name] = thin.rank
        found.whole.append(name)
        found.inexact(thin.error)
        return True
    return False


def _scaled(
    found: Comparison, filter_: Filter | None, base: Base, tensors: Mapping[str, Array], *, small: bool
) -> bool:
    if filter_ is None or not filter_.factors:
        return False
    name = filter_.name
    result = unfold(filter_, base.tensors[name], tensors[name], base.peaks[name])
    if result is None:
        return False
    found.kept[name] = "scaled"
    found.extra[f"{name}.scale"] = result.scale
    found.inexact(result.error)
    if not small and result.residual is None:
        found.whole.append(name)
    elif not small and result.residual is not None:
        found.residual[name] = result.residual
    return True


def _moved_factors(
    found: Comparison, filters: Mapping[str, Filter], base: Base, tensors: Mapping[str, Array]
) -> set[str]:
    """Tensors that differ from the base's once the factors of scaled filters are part of them."""
    moved = set()
    for name, how in found.kept.items():
        for factor in filters[name].factors if how == "scaled" else ():
            if not equal(base.tensors[factor], merged_factor(tensors[factor], found.extra[f"{name}.scale"])):
                moved.add(factor)
    return moved


def with_member(family: Family, member: Comparison, structure: Structure) -> Family:
    """The family with all that this member differs in among what its members differ in."""

    def joined(names: tuple[str, ...], more: list[str]) -> tuple[str, ...]:
        return tuple(name for name in structure.tensor_names() if name in names or name in more)

    def kept(how: Keeping) -> list[str]:
        return [name for name, kept_how in member.kept.items() if kept_how == how]

    ranks = {
        n: max(family.low_rank.get(n, 0), member.ranks.get(n, 0)) for n in family.low_rank | member.ranks
    }
    return msgspec.structs.replace(
        family,
        lifted=joined(family.lifted, member.lifted),
        scaled=joined(family.scaled, kept("scaled")),
        low_rank=ranks,
        sparse=joined(family.sparse, kept("sparse")),
        private=joined(family.private, kept("stored")),
    )


def families(store: Store, structure_sha256: str = "") -> dict[str, Family]:
    """All families of a store, or of one structure, by the digest of the base. Raises: StoreError.

    What another version of Lightbox wrote is left out, and logged.
    """
    prefix = families_prefix(structure_sha256) if structure_sha256 else FAMILIES
    found = _readable(store, store.names.items(prefix).values(), Family)
    return {family.base: family for family in found}


def variants(store: Store) -> dict[str, Variant]:
    """How every registered network is kept, by its digest. Raises: StoreError.

    What another version of Lightbox wrote is left out, and logged.
    """
    found = _readable(store, store.names.items(VARIANTS).values(), Variant)
    return {variant.network: variant for variant in found}


def readable_variant(reader: NetworkReader, network: Digest) -> Variant | None:
    """How the network is kept; None if it is not registered, or by another version of Lightbox (logged)."""
    try:
        return reader.variant(network)
    except Unreadable as error:
        log.warning("a network is left out: %s", error)
        return None


def _readable(store: Store, digests: Iterable[Digest], type_: type[_Record]) -> Iterator[_Record]:
    reader = NetworkReader(store.objects, store.names)
    for digest in digests:
        try:
            yield reader.read(digest, type_)
        except Unreadable as error:
            log.warning("a record of networks is left out: %s", error)


def members(store: Store, base: Digest | str) -> tuple[str, ...]:
    """Digests of the networks of a family, its base among them, sorted. Raises: StoreError."""
    return tuple(sorted(n for n, variant in variants(store).items() if variant.family == str(base)))

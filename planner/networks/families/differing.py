"""In how many tensors a registered network differs from its base, by the way these are kept."""

from collections import Counter

from object_store.digest import Digest
from planner.networks.families.sparse import equal
from planner.networks.keeping import NetworkReader
from planner.networks.records import Exact, Variant


def differs_in(reader: NetworkReader, variant: Variant) -> dict[str, int]:
    """As `Registration.kept` of the registering that wrote this record; of a base: what it stores.

    lifted: small tensors that its family's stage is fed, as they differ, or do so once the factors of scaled
    filters are part of them. Reads the small tensors of the network and of its base.
    Raises: StoreError.
    """
    kept = Counter[str](variant.kept.values())
    if variant.family == variant.network:
        return {"stored": len(variant.tensors)}
    own, fed = reader.small(variant.network), reader.effective_small(variant.network)
    base = reader.small(variant.family)
    kept["lifted"] = sum(
        (name not in variant.kept and not equal(base[name], own[name])) or not equal(base[name], fed[name])
        for name in own
    )
    return {how: number for how, number in sorted(kept.items()) if number}


def until_verified_bytes(reader: NetworkReader, exact: Digest | None) -> int:
    """Of objects that `exact/...` of a network stands for and names: there until it is verified."""
    if exact is None:
        return 0
    record: Exact = reader.read(exact, Exact)
    parts = {Digest.parse(text) for text in (record.residual, *record.tensors.values()) if text}
    return sum(digest.size for digest in {exact, *parts})

"""What each network costs in the store, against what it would cost alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from object_store.digest import Digest
from object_store.opening import Store
from planner import plan
from planner.names import EXACTS, FAMILIES, NETWORKS, VARIANTS
from planner.networks.joint import members_of
from planner.networks.structure import read_structure
from planner.stored_records import KnownRecords, parts_of, reached


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNetwork:
    """One network: an opened one, or a graph (with a parameter file) that was not opened."""

    network: str
    names: tuple[str, ...]
    """The pipelines that use it, and the names it was added under, sorted."""
    family: str
    """Digest of the base of its family; empty for an opaque one."""
    alone_bytes: int
    """What a file of its own holds: structure and all tensors; of an opaque one, the files themselves."""
    adds_bytes: int
    """Of objects that are there for this network only."""
    until_verified_bytes: int = 0
    """Of `adds_bytes`: what gives back its imported numbers bit for bit, let go once it is verified."""


def network_steps(known: KnownRecords) -> Iterator[tuple[str, str, str]]:
    """(pipeline, graph, variant) of every network that a step of a plan runs."""
    for record in known.values():
        if record is not None and record.format == plan.FORMAT:
            for fields in record.fields["nodes"]:
                for graph, variant in members_of(msgspec.convert(fields, plan.Node)):
                    yield record.fields["pipeline"], graph, variant


def opaque_files(known: KnownRecords) -> Iterator[Digest]:
    for _, graph, variant in network_steps(known):
        if known.get(Digest.parse(graph)) is None:
            yield from (Digest.parse(text) for text in (graph, variant) if text)


def kept_networks(store: Store, known: KnownRecords) -> tuple[tuple[KeptNetwork, ...], int]:
    """All networks, and the bytes of what several of them are kept by."""
    kept_by, families, alone, until_verified = _kept_by(store, known)
    users: dict[Digest, set[str]] = {}
    for network, needs in kept_by.items():
        for digest in needs:
            users.setdefault(digest, set()).add(network)
    names = _names(store, known)
    networks = [
        KeptNetwork(
            network=network,
            names=tuple(sorted(names.get(network, ()))),
            family=families.get(network, ""),
            alone_bytes=alone[network],
            adds_bytes=sum(digest.size for digest in needs if len(users[digest]) == 1),
            until_verified_bytes=sum(
                digest.size for digest in until_verified.get(network, ()) if len(users[digest]) == 1
            ),
        )
        for network, needs in kept_by.items()
    ]
    networks.sort(key=lambda network: (-network.adds_bytes, network.names, network.network))
    shared = sum(digest.size for digest, by in users.items() if len(by) > 1)
    return tuple(networks), shared + sum(record.size for record in store.names.items(FAMILIES).values())


def _kept_by(
    store: Store, known: KnownRecords
) -> tuple[dict[str, set[Digest]], dict[str, str], dict[str, int], dict[str, set[Digest]]]:
    """By network: the objects it is kept by (those of its base aside), the base of its family, size alone,
    and which of these objects are there only until it is verified."""
    kept: dict[str, set[Digest]] = {}
    until_verified: dict[str, set[Digest]] = {}
    families: dict[str, str] = {}
    for prefix in (VARIANTS, EXACTS):
        for digest in store.names.items(prefix).values():
            record = known.get(digest)
            if record is None:
                continue
            network = record.fields["network"]
            needs = reached([Digest.parse(network)], known) | {digest}
            needs |= {part for part, _ in parts_of(record)}
            if prefix == EXACTS:
                until_verified[network] = (needs & known.keys()) - kept.get(network, set())
            kept.setdefault(network, set()).update(needs & known.keys())
            families[network] = record.fields.get("family") or families.get(network, "")
    sizes: dict[str, int] = {}
    alone = {}
    for network in kept:
        record = known.get(Digest.parse(network))
        structure = record.fields["structure"] if record else ""
        if structure and structure not in sizes:
            sizes[structure] = _whole_bytes(store, Digest.parse(structure))
        alone[network] = sizes.get(structure, 0)
    for _, graph, variant in network_steps(known):
        if known.get(Digest.parse(graph)) is None:
            files = {Digest.parse(text) for text in (graph, variant) if text}
            name = f"{graph} {variant}".strip()
            kept[name] = files & known.keys()
            alone[name] = sum(file.size for file in files)
    return kept, families, alone, until_verified


def _whole_bytes(store: Store, structure: Digest) -> int:
    tensors = read_structure(store.objects.get(structure)).tensors.values()
    return structure.size + sum(tensor.nbytes for tensor in tensors)


def _names(store: Store, known: KnownRecords) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for pipeline, graph, variant in network_steps(known):
        key = f"{graph} {variant}".strip()
        found.setdefault(key, set()).add(pipeline)
    for name, digest in store.names.items(NETWORKS).items():
        found.setdefault(str(digest), set()).add(name.removeprefix(NETWORKS))
    return found

"""The parts of networks in the store: cut once, built once, remembered by a tag beside the first of them."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from numpy.typing import NDArray

from object_store.digest import Digest
from object_store.errors import ObjectMissing
from object_store.opening import Store
from planner.canonical import canonical_json, identity
from planner.errors import Unreadable
from planner.networks.building.build import put_build
from planner.networks.building.lift import lifted_structure
from planner.networks.cutting.cut import MEMORY_WORTH, Cut, cut
from planner.networks.cutting.extract import Part, extracted
from planner.networks.cutting.union import Whole
from planner.networks.joint import JointParts, PartRun, PartsOf
from planner.networks.keeping import NetworkReader, network_references, raw_bytes

Array = NDArray[Any]

_NOTHING = "nothing"


def stored_parts(store: Store, speedups: Mapping[str, float] | None = None) -> PartsOf:
    """For planner.networks.joint.find_joint: cuts networks of this store and puts the builds into it.

    speedups: by network digest, how much faster than fp32 on onnxruntime it runs alone under the binding that
    is being made (1 where not given). Parts run in fp32, so networks that run faster whole stay whole.
    An opaque graph has no parts.
    """

    def parts(networks: tuple[str, ...], fed: tuple[int, ...]) -> JointParts | None:
        found = _remembered(store, networks, fed)
        if found is None:
            return None
        alone = sum(1 / (speedups or {}).get(network, 1.0) for network in networks) / len(networks)
        worth = MEMORY_WORTH if found.held_once_bytes else 1.0
        return found if found.share < worth * alone else None

    return parts


def taken_apart(found: Cut, build_of: Callable[[Part], str]) -> JointParts:
    """The cut as runs of builds. build_of: builds a part and gives the digest; equal parts are built once."""
    builds: dict[bytes, str] = {}
    runs = []
    for group in found.groups:
        part = extracted(found, group)
        key = part.identity()
        if key not in builds:
            builds[key] = build_of(part)
        runs.append(PartRun(build=builds[key], takes=part.takes, gives=part.gives))
    share = float(f"{found.together_s / found.apart_s:.3g}")
    return JointParts(
        runs=tuple(runs),
        outputs=dict(found.union.outputs),
        share=share,
        held_once_bytes=found.held_once_bytes,
    )


def _remembered(store: Store, networks: tuple[str, ...], fed: tuple[int, ...]) -> JointParts | None:
    first, tag = Digest.parse(networks[0]), f"parts/{identity({'networks': networks, 'fed': fed})}"
    known = store.names.tags(first).get(tag)
    if known == _NOTHING:
        return None
    if known is not None and (found := _intact(store, Digest.parse(known))) is not None:
        return found
    made = _made(store, networks, fed)
    kept = _NOTHING if made is None else str(store.objects.put(canonical_json(msgspec.to_builtins(made))))
    store.names.tag(first, tag, kept)
    return made


def _intact(store: Store, digest: Digest) -> JointParts | None:
    """The parts kept under this digest, if nothing of them has been collected as garbage."""
    try:
        found = msgspec.json.decode(store.objects.get(digest), type=JointParts)
        builds = {run.build: store.objects.get(Digest.parse(run.build)) for run in found.runs}
    except (ObjectMissing, msgspec.DecodeError):
        return None
    kept = [reference for build in builds.values() for reference in network_references(build)]
    return None if store.objects.missing(kept) else found


def _made(store: Store, networks: tuple[str, ...], fed: tuple[int, ...]) -> JointParts | None:
    reader = NetworkReader(store.objects, store.names)
    wholes: dict[str, Whole] = {}
    arrays: dict[str, Array] = {}
    for network in networks:
        try:
            structure = reader.structure(network)
        except Unreadable:  # an opaque graph
            return None
        tensors = reader.tensors_as_kept(network)
        digests = {name: str(Digest.of(raw_bytes(array))) for name, array in tensors.items()}
        wholes[network] = Whole(structure, digests)
        for name, array in tensors.items():
            arrays.setdefault(digests[name], array)
    found = cut(wholes, fed)
    if found is None:
        return None
    return taken_apart(found, lambda part: _build(store, part, arrays))


def _build(store: Store, part: Part, arrays: Mapping[str, Array]) -> str:
    """Put the build of a part in fp32; its large tensors are objects that its networks have as well."""
    tensors = {name: arrays[digest] for name, digest in part.digests.items()}
    stage = lifted_structure(part.structure, tensors)
    return str(put_build(store, stage, {}, engine="onnxruntime", precision="fp32", hints={}))

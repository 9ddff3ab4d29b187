"""Compile a family into a build: an ONNX graph without its large tensors, and where those lie."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from object_store.digest import Digest
from object_store.opening import Store
from planner.networks.building.lift import Lifted, lifted_structure, takes_low_rank
from planner.networks.building.pack import packed
from planner.networks.keeping import NetworkReader, raw_bytes
from planner.networks.reading.write import model_bytes, to_onnx
from planner.networks.records import LARGE_BYTES, Build, Engine, Family, Precision, TensorAt
from planner.networks.structure import Structure

PRECISION_HINTS: dict[tuple[Engine, Precision], dict[str, str]] = {
    ("onnxruntime", "fp32"): {},
    ("openvino", "fp32"): {"INFERENCE_PRECISION_HINT": "f32"},
    ("openvino", "bf16"): {"INFERENCE_PRECISION_HINT": "bf16"},
}
"""What an engine can be told by words alone; int8 and mixed precision change the graph."""

LowRank: TypeAlias = Literal["applied", "materialised"]
"""`applied`: the factors of low-rank differences are inputs of the stage, where it can take them;
`materialised`: members that have such differences get sessions of their own when they are loaded."""


@dataclass(frozen=True, slots=True)
class EngineGraph:
    """A graph without its large tensors (serialised ONNX), and those, by name."""

    graph: bytes
    large: Mapping[str, NDArray[Any]]


def build_family(
    store: Store,
    family: Family,
    *,
    engine: Engine,
    precision: Precision = "fp32",
    low_rank: LowRank = "applied",
    across: bool | None = None,
) -> Digest:
    """Compile a family for one engine, put it in the store and return the build's digest.

    Equal arguments give an equal build, bytes and all.
    across: onnxruntime takes a batch of several members in one run (default: no, for on a CPU that is no
    faster than its items, and each of these is 5 % slower); OpenVINO is always fed item by item.
    Raises: ValueError, for a precision that this engine has no words for; StoreError.
    """
    hints = PRECISION_HINTS.get((engine, precision))
    if hints is None:
        raise ValueError(f"{engine} has no {precision} by hint")
    reader = NetworkReader(store.objects, store.names)
    structure, tensors = reader.structure(family.base), reader.tensors(family.base)
    ranks = applicable(structure, family) if low_rank == "applied" else {}
    together = across or engine == "openvino"
    others = sorted({*family.sparse, *family.private, *family.low_rank} - ranks.keys())
    lifted = lifted_structure(structure, tensors, family.lifted, ranks, others=others, across=together)
    weights = reader.weights(family.base)
    usual = put_build(store, lifted, weights, engine=engine, precision=precision, hints=hints)
    return usual if together else _packed_build(store, lifted, others, weights, usual) or usual


def put_build(
    store: Store,
    lifted: Lifted,
    weights: Mapping[str, Digest],
    *,
    engine: Engine,
    precision: Precision,
    hints: Mapping[str, str],
    network: str = "",
) -> Digest:
    """Put a build of this stage. weights: digests of large tensors that are kept already, by name; others
    (made while compiling) are put as well. network: the one whose numbers they are, if only its.
    Raises: StoreError."""
    parts = engine_graph(lifted)
    places = {}
    for name, array in sorted(parts.large.items()):
        digest = weights[name] if name in weights else store.objects.put(raw_bytes(array))
        places[name] = TensorAt(blob=str(digest), offset=0, dtype=array.dtype.name, shape=array.shape)
    build = Build(
        engine=engine,
        precision=precision,
        graph=str(store.objects.put(parts.graph)),
        tensors=places,
        parameters=lifted.parameters,
        hints=dict(hints),
        items_apart=lifted.items_apart,
        network=network,
    )
    return store.objects.put(build.to_bytes())


def _packed_build(
    store: Store, lifted: Lifted, others: Collection[str], weights: Mapping[str, Digest], otherwise: Digest
) -> Digest | None:
    """Put the stage as onnxruntime optimises it on this machine; None where that gains nothing."""
    found = packed(lifted, others)
    if found is None:
        return None
    places = {}
    for name, array in sorted({**{n: lifted.tensors[n] for n in found.layouts}, **found.own}.items()):
        kept = weights.get(name) if name in found.layouts else None
        digest = kept or store.objects.put(raw_bytes(array))
        layout = found.layouts.get(name, "")
        places[name] = TensorAt(
            blob=str(digest), offset=0, dtype=array.dtype.name, shape=array.shape, layout=layout
        )
    build = Build(
        engine="onnxruntime",
        precision="fp32",
        graph=str(store.objects.put(found.graph)),
        tensors=places,
        parameters=found.parameters,
        items_apart=lifted.items_apart,
        channel_block=found.block,
        runtime=found.runtime,
        otherwise=str(otherwise),
    )
    return store.objects.put(build.to_bytes())


def engine_graph(lifted: Lifted) -> EngineGraph:
    """What an engine is given: names of large tensors are left for it to define."""
    large = {name: array for name, array in lifted.tensors.items() if array.nbytes >= LARGE_BYTES}
    small = {name: array for name, array in lifted.tensors.items() if name not in large}
    return EngineGraph(_graph(lifted.structure, small), large)


def plain(structure: Structure, tensors: Mapping[str, NDArray[Any]]) -> EngineGraph:
    """One network by itself, nothing lifted."""
    return engine_graph(lifted_structure(structure, tensors))


def _graph(structure: Structure, small: Mapping[str, NDArray[Any]]) -> bytes:
    types = {name: structure.tensors[name] for name in structure.tensors if name in small}
    arrays = {name: np.ascontiguousarray(small[name]) for name in types}
    return model_bytes(to_onnx(msgspec.structs.replace(structure, tensors=types), arrays))


def applicable(structure: Structure, family: Family) -> dict[str, int]:
    """Low-rank differences that a stage can apply while it runs, with their ranks: all of them or none, as a
    member that needs a session of its own for one tensor needs no factors for the others."""
    taken = all(takes_low_rank(structure, name) for name in family.low_rank)
    return dict(family.low_rank) if taken else {}

"""What differs between two networks of a store: in structure, or tensor by tensor."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from object_store.digest import Digest
from object_store.opening import Store
from planner.networks.keeping import NetworkReader
from planner.networks.records import NETWORK_FORMAT
from planner.networks.structure import Op, Port, Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """A tensor that two networks of one structure have, with other numbers.

    largest: the largest difference of two numbers, by the largest magnitude in either tensor.
    """

    name: str
    read_by: str
    """The type of the operator that reads it first."""
    shape: tuple[int, ...]
    numbers: int
    differing: int
    largest: float


@dataclass(frozen=True, slots=True)
class StructureDifference:
    """A property that two structures do not have in common: what it is in either, as words."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class NetworkDifference:
    """structure: empty if it is the same; tensors: only then. why: said where one of them is opaque."""

    before: str
    after: str
    structure: tuple[StructureDifference, ...] = ()
    tensors: tuple[TensorDifference, ...] = ()
    why: str = ""


def network_difference(
    store: Store, before: str, after: str, store_after: Store | None = None
) -> NetworkDifference:
    """Compare two networks by their digests. store_after: of the second, where it lies in another store.

    Raises: StoreError.
    """
    stores = (store, store_after or store)
    for where, digest in zip(stores, (before, after), strict=True):
        if not is_opened(where, digest):
            return NetworkDifference(before, after, why=f"{digest} is a graph that was not opened")
    first, second = (NetworkReader(where.objects, where.names) for where in stores)
    ours, theirs = first.structure(before), second.structure(after)
    if ours != theirs:
        return NetworkDifference(before, after, structure=tuple(_structures(ours, theirs)))
    return NetworkDifference(before, after, tensors=tuple(_tensors(first, second, ours, before, after)))


def is_opened(store: Store, digest: str) -> bool:
    """Whether this is the record of a network, and not a graph as it was imported. Raises: StoreError."""
    head = bytes(store.objects.map(Digest.parse(digest))[:4096])
    return head.startswith(b"{") and f'"format":"{NETWORK_FORMAT}"'.encode() in head


def _structures(before: Structure, after: Structure) -> Iterator[StructureDifference]:
    for what, ours, theirs in (
        ("inputs", _ports(before.inputs), _ports(after.inputs)),
        ("outputs", _ports(before.outputs), _ports(after.outputs)),
        ("opset", str(before.opset), str(after.opset)),
        ("parameters", str(_parameters(before)), str(_parameters(after))),
    ):
        if ours != theirs:
            yield StructureDifference(what, ours, theirs)
    ours_by_type = Counter(op.type for op in before.ops)
    theirs_by_type = Counter(op.type for op in after.ops)
    for kind in sorted(ours_by_type | theirs_by_type):
        if ours_by_type[kind] != theirs_by_type[kind]:
            yield StructureDifference(f"operators {kind}", str(ours_by_type[kind]), str(theirs_by_type[kind]))
    for place, (mine, other) in enumerate(zip(before.ops, after.ops, strict=False)):
        if (mine.type, mine.attributes) != (other.type, other.attributes):
            yield StructureDifference(f"first other operator, number {place}", _said(mine), _said(other))
            return
        shapes = [
            [structure.tensors[name].shape for name in op.inputs if name in structure.tensors]
            for structure, op in ((before, mine), (after, other))
        ]
        if shapes[0] != shapes[1]:
            what = f"first operator with other tensors, number {place}, {mine.type}"
            yield StructureDifference(what, str(shapes[0]), str(shapes[1]))
            return
    yield StructureDifference("constants or edges", "otherwise", "otherwise")


def _ports(ports: tuple[Port, ...]) -> str:
    return ", ".join(f"{port.dtype}[{', '.join(map(str, port.shape))}]" for port in ports)


def _parameters(structure: Structure) -> int:
    return sum(int(np.prod(tensor.shape)) for tensor in structure.tensors.values())


def _said(op: Op) -> str:
    fields = ", ".join(f"{key} {value}" for key, value in sorted(op.attributes.items()))
    return f"{op.type} ({fields})" if fields else op.type


def _tensors(
    first: NetworkReader, second: NetworkReader, structure: Structure, before: str, after: str
) -> Iterator[TensorDifference]:
    ours, theirs = first.weights(before), second.weights(after)
    same = {name for name, digest in ours.items() if theirs[name] == digest}
    mine, others = first.tensors_as_kept(before), second.tensors_as_kept(after)
    reads = structure.consumers()
    for name in structure.tensor_names():
        if name not in same and (found := _numbers(mine[name], others[name])):
            differing, largest = found
            yield TensorDifference(
                name=name,
                read_by=reads[name][0].type if name in reads else "",
                shape=structure.tensors[name].shape,
                numbers=int(mine[name].size),
                differing=differing,
                largest=largest,
            )


def _numbers(before: NDArray[np.generic], after: NDArray[np.generic]) -> tuple[int, float] | None:
    """(how many numbers differ, largest difference by largest magnitude); None if none does."""
    ours, theirs = before.astype(np.float64), after.astype(np.float64)
    differing = int(np.count_nonzero(ours != theirs))
    if not differing:
        return None
    magnitude = max(float(np.abs(ours).max()), float(np.abs(theirs).max()))
    return differing, float(np.abs(ours - theirs).max()) / magnitude

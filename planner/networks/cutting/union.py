"""Several networks as one graph in which equal operators of equal values occur once.

A value's id is its Merkle identity (planner.networks.reading.identity): equal ids, equal values, whatever the
networks call them. An operator's id is that of its first result. Everything is found by id; pairs are never
compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from planner.canonical import canonical_json
from planner.networks.cutting.sizes import Dims, Sizes, sizes_of
from planner.networks.reading.identity import value_ids
from planner.networks.structure import Constant, Op, Structure, TensorType

_ID_LENGTH = 32
"""Of the hexadecimal digits of an identity: 128 bits are enough among the values of a few networks."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A network to be cut. digests: of its learned tensors, by the structure's names."""

    structure: Structure
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Known:
    """A value of the union: nbytes for the size of input looked at (None: not known), dims for any."""

    dtype: str
    nbytes: int | None
    dims: Dims | None


@dataclass(slots=True)
class UnionOp:
    """One operator on values given by id. users: the networks that have it, sorted."""

    id: str
    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    seconds: float
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """ops: by id, inputs before readers. outputs: of each network, ids in order. opset: of all of them."""

    opset: int
    ops: Mapping[str, UnionOp]
    inputs: frozenset[str]
    outputs: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Known]
    tensors: Mapping[str, tuple[str, TensorType]]
    """Learned tensors: id -> (digest, type)."""
    constants: Mapping[str, Constant]

    def computed(self, op: UnionOp) -> Iterator[str]:
        """Ids of the op's inputs that are inputs of the networks or computed, each once."""
        for value in dict.fromkeys(op.inputs):
            if value and value not in self.tensors and value not in self.constants:
                yield value

    def makers(self) -> dict[str, str]:
        """The op that computes each value."""
        return {value: op.id for op in self.ops.values() for value in op.outputs if value}

    def readers(self) -> dict[str, list[str]]:
        """The ops that read each computed value or input."""
        found: dict[str, list[str]] = {}
        for op in self.ops.values():
            for value in self.computed(op):
                found.setdefault(value, []).append(op.id)
        return found


@dataclass(slots=True)
class Group:
    """Operators of the union that run as one graph, once. users: the networks it runs for.

    ids: what orders ports and operators of a suffix, where the union's ids differ from network to network.
    """

    users: tuple[str, ...]
    ops: list[str]
    shared: bool
    ids: Mapping[str, str] = field(default_factory=dict)


def union_of(networks: Mapping[str, Whole], fed: tuple[int, ...]) -> Union | None:
    """The union, independent of the order in which networks are given.

    fed: shape of what x0 is given, for the sizes. None if networks of several opsets or inputs meet, or one
    takes no input of that rank: those have nothing in common that could run once.
    """
    if len({(whole.structure.opset, _ports(whole.structure)) for whole in networks.values()}) != 1:
        return None
    builder = _Builder()
    for network in sorted(networks):
        sizes = sizes_of(networks[network].structure, fed)
        if sizes is None:
            return None
        builder.add(network, networks[network], sizes)
    return builder.union(next(iter(networks.values())).structure.opset)


class _Builder:
    def __init__(self) -> None:
        self._ops: dict[str, UnionOp] = {}
        self._users: dict[str, list[str]] = {}
        self._inputs: set[str] = set()
        self._outputs: dict[str, tuple[str, ...]] = {}
        self._values: dict[str, Known] = {}
        self._tensors: dict[str, tuple[str, TensorType]] = {}
        self._constants: dict[str, Constant] = {}

    def add(self, network: str, whole: Whole, sizes: Sizes) -> None:
        structure = whole.structure
        ids = {name: value[-_ID_LENGTH:] for name, value in value_ids(structure, whole.digests).items()}
        for port in structure.inputs:
            ids[port.name] = port.name
            self._inputs.add(port.name)
            self._know(port.name, port.name, sizes)
        for name, tensor in structure.tensors.items():
            self._tensors[ids[name]] = (whole.digests[name], tensor)
        for name, constant in structure.constants.items():
            self._constants[ids[name]] = constant
        ids[""] = ""
        for op in structure.ops:
            self._add_op(network, op, ids, sizes)
        self._outputs[network] = tuple(ids[port.name] for port in structure.outputs)

    def union(self, opset: int) -> Union:
        for op_id, users in self._users.items():
            self._ops[op_id].users = tuple(sorted(set(users)))
        return Union(
            opset,
            self._ops,
            frozenset(self._inputs),
            self._outputs,
            self._values,
            self._tensors,
            self._constants,
        )

    def _add_op(self, network: str, op: Op, ids: Mapping[str, str], sizes: Sizes) -> None:
        inputs, outputs = (tuple(ids[name] for name in names) for names in (op.inputs, op.outputs))
        op_id = next(filter(None, outputs))
        self._users.setdefault(op_id, []).append(network)
        if op_id not in self._ops:
            self._ops[op_id] = UnionOp(op_id, op, inputs, outputs, sizes.seconds(op), ())
            for name in filter(None, op.outputs):
                self._know(ids[name], name, sizes)

    def _know(self, value: str, name: str, sizes: Sizes) -> None:
        if name in sizes.types:
            known = sizes.types[name]
            self._values[value] = Known(known.dtype, known.nbytes, sizes.dims.get(name))


def _ports(structure: Structure) -> bytes:
    """The inputs, with words for free sizes that do not depend on the file."""
    words: dict[str, str] = {}
    ports = [
        [
            p.name,
            p.dtype,
            [s if isinstance(s, int) else words.setdefault(s, f"n{len(words)}") for s in p.shape],
        ]
        for p in structure.inputs
    ]
    return canonical_json(ports)

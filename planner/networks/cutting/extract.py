"""A group of operators out of several networks as a structure of its own, with ports where it was cut."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.canonical import canonical_json
from planner.networks.cutting.cut import Cut
from planner.networks.cutting.union import Group, Union, UnionOp
from planner.networks.structure import Constant, Op, Port, Structure, TensorType


@dataclass(frozen=True, slots=True)
class Part:
    """A graph of its own. digests: of its learned tensors, by the structure's names.

    takes, gives: the values (ids of the union) at its ports x0.., y0.. Parts of equal operators and weights
    have equal structures and digests, whichever networks they came from and whatever else those have.
    """

    structure: Structure
    digests: Mapping[str, str]
    takes: tuple[str, ...]
    gives: tuple[str, ...]

    def identity(self) -> bytes:
        """Equal for equal graphs, whatever values they run on."""
        return self.structure.to_bytes() + canonical_json(dict(self.digests))


def extracted(cut: Cut, group: Group) -> Part:
    """The group as a part."""
    takes, gives = cut.takes(group), cut.gives(group)
    naming = _Naming(cut.union, takes, gives)
    ops = tuple(naming.op(op) for op in _in_order(cut.union, group))
    structure = Structure(
        opset=cut.union.opset,
        inputs=tuple(_port(cut.union, f"x{place}", value) for place, value in enumerate(takes)),
        outputs=tuple(_port(cut.union, f"y{place}", value) for place, value in enumerate(gives)),
        tensors=naming.tensors,
        constants=naming.constants,
        ops=ops,
    )
    return Part(structure, naming.digests, takes, gives)


class _Naming:
    """Gives names by first use: t0.., c0.., v0..; ports have theirs."""

    def __init__(self, union: Union, takes: Sequence[str], gives: Sequence[str]) -> None:
        self._union = union
        self._names = {"": ""}
        self._names |= {value: f"x{place}" for place, value in enumerate(takes)}
        self._names |= {value: f"y{place}" for place, value in enumerate(gives)}
        self._values = 0
        self.tensors: dict[str, TensorType] = {}
        self.digests: dict[str, str] = {}
        self.constants: dict[str, Constant] = {}

    def op(self, op: UnionOp) -> Op:
        inputs = tuple(self._name(value) for value in op.inputs)
        outputs = tuple(self._name(value) for value in op.outputs)
        return Op(op.op.type, inputs, outputs, op.op.attributes, op.op.domain)

    def _name(self, value: str) -> str:
        if value in self._names:
            return self._names[value]
        if value in self._union.tensors:
            name = f"t{len(self.tensors)}"
            self.digests[name], self.tensors[name] = self._union.tensors[value]
        elif value in self._union.constants:
            name = f"c{len(self.constants)}"
            self.constants[name] = self._union.constants[value]
        else:
            name = f"v{self._values}"
            self._values += 1
        self._names[value] = name
        return name


def _in_order(union: Union, group: Group) -> list[UnionOp]:
    """Inputs before readers, and among those that are ready the least id first."""
    inside = set(group.ops)
    makers = {value: op for op in group.ops for value in union.ops[op].outputs if value}
    waits = {op: {makers[v] for v in union.computed(union.ops[op]) if v in makers} for op in inside}
    readers: dict[str, list[str]] = {}
    for op, before in waits.items():
        for maker in before:
            readers.setdefault(maker, []).append(op)
    ready = [(group.ids.get(op, op), op) for op in inside if not waits[op]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, op = heapq.heappop(ready)
        order.append(union.ops[op])
        for reader in readers.get(op, ()):
            waits[reader].discard(op)
            if not waits[reader]:
                heapq.heappush(ready, (group.ids.get(reader, reader), reader))
    return order


def _port(union: Union, name: str, value: str) -> Port:
    """A port as any size of input makes it: words where sizes are free."""
    known = union.values[value]
    dims = known.dims or ()
    return Port(name, known.dtype, tuple(f"{name}_{i}" if d is None else d for i, d in enumerate(dims)))

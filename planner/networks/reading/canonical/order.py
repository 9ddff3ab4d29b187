"""The last pass: one order of operators and names by place, as a Structure with its learned tensors."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.canonical import canonical_json
from planner.networks.reading.canonical.graph import SHARED_FROM, Graph, Node
from planner.networks.reading.canonical.roles import is_learned
from planner.networks.reading.canonical.ties import Ties
from planner.networks.structure import Constant, Op, Port, Structure, TensorType

COMMUTATIVE = {"Add", "Mul", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal"}


def in_canonical_order(graph: Graph, outputs: tuple[Port, ...]) -> tuple[Structure, dict[str, NDArray[Any]]]:
    """Name everything by place. outputs: their types, in order.

    Operators come as a walk from the outputs finds them, inputs first. The operands of Add and the like are
    put in one order too: values before constants, then by what computes them, learned numbers left aside;
    where both are alike in that, by the learned numbers.
    """
    return _Naming(graph).run(outputs)


class _Naming:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._producer = {name: node for node in graph.nodes for name in node.outputs if name}
        self._names = {port.name: f"x{place}" for place, port in enumerate(graph.inputs)}
        self._shared: dict[str, str] = {}
        self._equal: dict[bytes, str] = {}
        self._tensors: dict[str, NDArray[Any]] = {}
        self._constants: dict[str, Constant] = {}
        self._ops: list[Op] = []
        self._values = 0

    def run(self, outputs: tuple[Port, ...]) -> tuple[Structure, dict[str, NDArray[Any]]]:
        self._order_operands()
        places: dict[str, str] = {}
        aliases: list[tuple[str, str]] = []
        for place, name in enumerate(self._graph.names_out):
            if name in self._producer and name not in places:
                places[name] = f"y{place}"
            else:
                aliases.append((name, f"y{place}"))
        for node in self._walk():
            self._add(node, places)
        for name, output in aliases:
            source = self._input(Node("Identity", [name], [output]), 0)
            self._ops.append(Op("Identity", (source,), (output,)))
        structure = Structure(
            opset=self._graph.opset,
            inputs=tuple(Port(f"x{n}", p.dtype, p.shape) for n, p in enumerate(self._graph.inputs)),
            outputs=outputs,
            tensors={
                name: TensorType(value.dtype.name, value.shape) for name, value in self._tensors.items()
            },
            constants=self._constants,
            ops=tuple(self._ops),
        )
        return structure, self._tensors

    def _walk(self) -> list[Node]:
        """Nodes as a depth-first walk from the outputs leaves them."""
        order: list[Node] = []
        seen: set[int] = set()
        for output in self._graph.names_out:
            waiting = [(self._producer[output], False)] if output in self._producer else []
            while waiting:
                node, finished = waiting.pop()
                if finished:
                    order.append(node)
                    continue
                if id(node) in seen:
                    continue
                seen.add(id(node))
                waiting.append((node, True))
                waiting += [
                    (self._producer[name], False) for name in reversed(node.inputs) if name in self._producer
                ]
        return order

    def _add(self, node: Node, places: Mapping[str, str]) -> None:
        inputs = tuple(self._input(node, place) for place in range(len(node.inputs)))
        for name in node.outputs:
            if name in places:
                self._names[name] = places[name]
            elif name:
                self._names[name] = f"v{self._values}"
                self._values += 1
        outputs = tuple(self._names[name] if name else "" for name in node.outputs)
        self._ops.append(Op(node.type, inputs, outputs, node.attributes))

    def _input(self, node: Node, place: int) -> str:
        name = node.inputs[place]
        if not name or name in self._names:
            return self._names.get(name, "")
        value = self._graph.constants[name]
        if not is_learned(node, place, value):
            constant = Constant(value.dtype.name, value.shape, tuple(value.ravel().tolist()))
            spelled = canonical_json([constant.dtype, constant.shape, constant.numbers])
            if spelled not in self._equal:
                self._equal[spelled] = f"c{len(self._constants)}"
                self._constants[self._equal[spelled]] = constant
            return self._equal[spelled]
        if name in self._shared:
            return self._shared[name]
        given = f"t{len(self._tensors)}"
        self._tensors[given] = value
        if value.nbytes >= SHARED_FROM:
            self._shared[name] = given
        return given

    def _order_operands(self) -> None:
        marks: dict[str, bytes] = {port.name: b"x%d" % n for n, port in enumerate(self._graph.inputs)}
        for node in self._graph.nodes:
            found = [self._mark(node, place, marks) for place in range(len(node.inputs))]
            if node.type in COMMUTATIVE:
                constant = [name in self._graph.constants for name in node.inputs]
                order = sorted(range(len(found)), key=lambda n: (constant[n], found[n]))
                if len({(constant[n], found[n]) for n in order}) < len(set(node.inputs)):
                    ties = Ties(self._graph.constants, self._producer)
                    order.sort(key=lambda n: (constant[n], found[n], ties.rank(node.inputs[n])))
                node.inputs = [node.inputs[n] for n in order]
                found = [found[n] for n in order]
            spelled = canonical_json([node.type, node.attributes])
            whole = hashlib.sha256(spelled + b"\0".join(found)).digest()
            marks |= {name: whole + b"%d" % n for n, name in enumerate(node.outputs) if name}

    def _mark(self, node: Node, place: int, marks: Mapping[str, bytes]) -> bytes:
        """What computes this operand, learned numbers left aside."""
        name = node.inputs[place]
        if name in marks or not name:
            return marks.get(name, b"")
        value = self._graph.constants[name]
        kind = canonical_json([value.dtype.name, value.shape])
        if is_learned(node, place, value):
            return kind
        return kind + hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()

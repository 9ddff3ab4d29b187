"""A network while it is being brought into canonical form: one mutable graph that every pass works on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.networks.records import LARGE_BYTES
from planner.networks.structure import Port

Dim: TypeAlias = int | str | None
"""A size: a number, the word of a free size, or unknown."""

SHARED_FROM = LARGE_BYTES
"""A learned tensor of this size that is read in several places stays one tensor; exporters merge
smaller ones that happen to be equal, so those are told apart again."""


@dataclass(slots=True, eq=False)
class Node:
    """One ONNX operator. Attributes hold JSON values; an absent input or output is ""."""

    type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Type:
    """What is known of a value: dtype as numpy's word, and its shape (None: not even the rank)."""

    dtype: str | None = None
    shape: tuple[Dim, ...] | None = None


UNKNOWN = Type()


@dataclass(slots=True)
class Graph:
    """Nodes in an order of computation; `constants` are all known arrays, learned or not, by name."""

    opset: int
    inputs: list[Port]
    outputs: list[Port]
    """As the file declares them; `names_out` says which value each one is now."""
    names_out: list[str]
    nodes: list[Node]
    constants: dict[str, NDArray[Any]]
    types: dict[str, Type] = field(default_factory=dict)
    fresh: int = 0
    folded_bytes: int = 0
    """Of all constants that were computed so far."""

    def type_of(self, name: str) -> Type:
        if name in self.constants:
            value = self.constants[name]
            return Type(word_of(value.dtype), value.shape)
        return self.types.get(name, UNKNOWN)

    def rank_of(self, name: str) -> int | None:
        shape = self.type_of(name).shape
        return None if shape is None else len(shape)

    def new_name(self) -> str:
        """A name that no ONNX file can hold."""
        self.fresh += 1
        return f"\0{self.fresh}"

    def add_constant(self, value: NDArray[Any]) -> str:
        name = self.new_name()
        self.constants[name] = value
        return name

    def consumers(self) -> dict[str, list[Node]]:
        """Nodes that read each value, once per place they read it in; outputs of the graph do not count."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name:
                    found.setdefault(name, []).append(node)
        return found

    def replace(self, replaced: dict[str, str]) -> None:
        """Read other values instead, everywhere. Chains of replacements are followed."""
        if not replaced:
            return

        def final(name: str) -> str:
            while name in replaced:
                name = replaced[name]
            return name

        for node in self.nodes:
            node.inputs = [final(name) for name in node.inputs]
        self.names_out = [final(name) for name in self.names_out]

    def drop_unused(self) -> None:
        """Remove nodes, outputs and constants that no output of the graph depends on; forget their types."""
        wanted = set(self.names_out)
        kept = []
        for node in reversed(self.nodes):
            if not any(name in wanted for name in node.outputs):
                continue
            node.outputs = trimmed(name if name in wanted else "" for name in node.outputs)
            wanted.update(name for name in node.inputs if name)
            kept.append(node)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in wanted}
        self.types = {name: kind for name, kind in self.types.items() if name in wanted}

    def sort(self) -> bool:
        """Put the nodes into an order of computation. False: there is none, as they form a cycle."""
        producer = {name: node for node in self.nodes for name in node.outputs if name}
        readers: dict[int, list[Node]] = {}
        missing: dict[int, int] = {}
        for node in self.nodes:
            needs = {id(producer[name]): producer[name] for name in node.inputs if name in producer}
            missing[id(node)] = len(needs)
            for key in needs:
                readers.setdefault(key, []).append(node)
        ready = [node for node in reversed(self.nodes) if not missing[id(node)]]
        done = []
        while ready:
            node = ready.pop()
            done.append(node)
            for reader in readers.get(id(node), []):
                missing[id(reader)] -= 1
                if not missing[id(reader)]:
                    ready.append(reader)
        if len(done) != len(self.nodes):
            return False
        self.nodes = done
        return True


@cache
def word_of(dtype: np.dtype[Any]) -> str:
    """The dtype's name, which numpy puts together anew each time it is asked."""
    return dtype.name


def trimmed(names: Iterable[str]) -> list[str]:
    """Names without the absent ones at the end."""
    result = list(names)
    while result and not result[-1]:
        result.pop()
    return result


def integers(value: NDArray[Any]) -> list[int]:
    """The numbers of a small integer array, flat."""
    return [int(number) for number in np.asarray(value).reshape(-1)]


def ports_in_words(ports: Iterable[Port]) -> Iterator[str]:
    """The words for free sizes, in order of appearance, once each."""
    yield from dict.fromkeys(size for port in ports for size in port.shape if isinstance(size, str))

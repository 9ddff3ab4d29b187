"""Runs a build: one member over a batch, or a batch whose items belong to different members."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.base import NetworkSession
from planner.networks.records import Build

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

TOGETHER = 4
"""Small items of one member that OpenVINO computes in one run: what `network` operators feed at a time. What
is left over runs item by item: it compiles for two sizes of a batch, not for as many as there are."""

SMALL_ITEM_BYTES = 256 << 10
"""Of one item's inputs: a slice of 256 x 256. In fours, slices of 208 x 208 through `ct-lungs-net` are 1.10
(fp32), 1.22 (bf16) and 1.27 (int8) times as fast as one by one on two threads, with the same bytes; slices of
512 x 512 and cubes of 64 are no faster in fp32 and bf16, and take four times the memory."""


@dataclass(frozen=True, slots=True)
class CompiledBuild:
    """A build with its one session, which all members of the family share. Threads may share it."""

    build: Build
    session: NetworkSession

    def run(self, inputs: Arrays, parameters: Arrays) -> list[NDArray[np.float32]]:
        """Outputs in graph order of one member, or of one member per item where parameters are stacked.

        inputs: the network's, by name, items along axis 0. Raises: KernelError.
        """
        items = _items(inputs) if self._in_pieces else 1
        if items < 2:
            return self.session.run({**inputs, **parameters})
        together = TOGETHER if self._small_and_alike(inputs, parameters, items) else 1
        runs = [
            self.session.run({**_part(inputs, piece), **self._row(parameters, piece)})
            for piece in _pieces(items, together)
        ]
        if len(runs) == 1:
            return runs[0]
        return [np.concatenate(outputs) for outputs in zip(*runs, strict=True)]

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.build.parameters)

    @property
    def stacks(self) -> bool:
        """Whether a batch of different members can be one run of the engine."""
        return self.build.items_apart and all(parameter.per_sample for parameter in self.build.parameters)

    @property
    def _in_pieces(self) -> bool:
        """OpenVINO compiles for each size of a batch."""
        return self.build.engine == "openvino" and self.build.items_apart

    def _small_and_alike(self, inputs: Arrays, parameters: Arrays, items: int) -> bool:
        """Whether the items are small and of one member."""
        size = sum(array.nbytes for array in inputs.values()) // items
        return size <= SMALL_ITEM_BYTES and not self._stacked(parameters)

    def _row(self, parameters: Arrays, piece: slice) -> Arrays:
        many = self._stacked(parameters)
        return {name: a[piece] if name in many else a for name, a in parameters.items()}

    def _stacked(self, parameters: Arrays) -> set[str]:
        """Parameters with a row for each item."""
        return {p.name for p in self.build.parameters if p.per_sample and len(parameters[p.name]) > 1}


@dataclass(frozen=True, slots=True)
class BuildSession:
    """Implements models.operators.base.NetworkSession: one member of a family, on the family's session."""

    compiled: CompiledBuild
    parameters: Arrays
    """The member's own, by name, in the shapes of the build; read-only."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Outputs in graph order. Raises: KernelError for inputs the network does not take."""
        own = self.parameters.keys() & inputs.keys()
        if own:
            raise KernelError(f"the network has no input {', '.join(sorted(own))}")
        return self.compiled.run(inputs, self.parameters)


def run_across(members: Sequence[BuildSession], inputs: Arrays) -> list[NDArray[np.float32]]:
    """Outputs in graph order of a batch whose items belong to different networks of one structure.

    Args:
        members: one for each item.
        inputs: the network's, by name, items along axis 0.

    One run with stacked parameters where the build allows that; else one run for each stretch of equal
    members, which gives the same bytes as one run for each item. Raises: KernelError.
    """
    if len(members) != _items(inputs):
        raise KernelError(f"{_items(inputs)} items were given with {len(members)} members")
    compiled = members[0].compiled
    if all(member is members[0] for member in members):
        return members[0].run(inputs)
    if not all(member.compiled.build.items_apart for member in members):
        raise KernelError("this network does not compute the items of a batch one by one")
    if compiled.stacks and all(member.compiled is compiled for member in members):
        names = compiled.parameter_names
        stacked = {name: np.concatenate([member.parameters[name] for member in members]) for name in names}
        return compiled.run(inputs, stacked)
    runs, start = [], 0
    while start < len(members):
        end = start + 1
        while end < len(members) and members[end] is members[start]:
            end += 1
        runs.append(members[start].run({name: array[start:end] for name, array in inputs.items()}))
        start = end
    return [np.concatenate(outputs) for outputs in zip(*runs, strict=True)]


def _items(inputs: Arrays) -> int:
    sizes = {len(array) if array.ndim else 0 for array in inputs.values()}
    if len(sizes) != 1 or sizes == {0}:
        raise KernelError("the inputs of a network have no items, or not equally many")
    return sizes.pop()


def _pieces(items: int, together: int) -> Iterator[slice]:
    """As many whole pieces as there are; what is left over in pieces of one."""
    whole = items - items % together
    for start in range(0, whole, together):
        yield slice(start, start + together)
    for start in range(whole, items):
        yield slice(start, start + 1)


def _part(inputs: Arrays, piece: slice) -> dict[str, NDArray[Any]]:
    return {name: array[piece] for name, array in inputs.items()}

"""A network's structure: operators and edges, without the learned numbers. Equal structures, equal bytes.

Everything here is a value with a canonical JSON form; the numbers are kept apart, so that networks which
differ in their numbers only have one structure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from planner.canonical import canonical_json

FORMAT = "lightbox.structure/1"


class TensorType(msgspec.Struct, frozen=True):
    """dtype: numpy's word (float32, int8 ...)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count * np.dtype(self.dtype).itemsize


class Port(msgspec.Struct, frozen=True):
    """An input or output of the whole network. A word in `shape` is a free size; equal words, equal sizes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Constant(msgspec.Struct, frozen=True):
    """Numbers that belong to the structure (shapes, axes, scales of a Resize), flat and in C order."""

    dtype: str
    shape: tuple[int, ...]
    numbers: tuple[float | int | bool, ...]

    def array(self) -> NDArray[Any]:
        return np.array(self.numbers, self.dtype).reshape(self.shape)


class Op(msgspec.Struct, frozen=True):
    """One ONNX operator. An absent optional input is ""; attributes hold JSON values, defaults left out."""

    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = {}
    domain: str = ""


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """A canonical network without its learned numbers.

    Names are given by place: inputs x0, x1 ..., outputs y0 ..., learned tensors t0 ..., constants c0 ...,
    values in between v0 ...; `ops` are in one fixed order of computation.
    """

    format: str = FORMAT
    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tensors: dict[str, TensorType]
    """Learned numbers, by name: what variants may differ in."""
    constants: dict[str, Constant]
    ops: tuple[Op, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON: the bytes whose digest names the structure."""
        return canonical_json(msgspec.to_builtins(self))

    def tensor_names(self) -> tuple[str, ...]:
        """Names of the learned tensors in canonical order (t2 before t10)."""
        return tuple(sorted(self.tensors, key=lambda name: int(name[1:])))

    def consumers(self) -> dict[str, tuple[Op, ...]]:
        """The ops that read each value, tensor, constant or input."""
        found: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                if name:
                    found.setdefault(name, []).append(op)
        return {name: tuple(ops) for name, ops in found.items()}


def read_structure(data: bytes) -> Structure:
    """The structure in these bytes. Raises msgspec.DecodeError if they are none of this format."""
    structure = msgspec.json.decode(data, type=Structure)
    if structure.format != FORMAT:
        raise msgspec.ValidationError(f"format '{structure.format}' is not {FORMAT}")
    return structure


@dataclass(frozen=True, slots=True)
class Opened:
    """A network that was read: its structure, and its learned numbers by the structure's tensor names."""

    structure: Structure
    tensors: Mapping[str, NDArray[Any]]
    input_names: tuple[str, ...]
    """What the author's file called x0, x1 ..."""
    output_names: tuple[str, ...]

    def typed_tensors(self) -> Iterator[tuple[str, TensorType, NDArray[Any]]]:
        """Every learned tensor with its type, in canonical order."""
        for name in self.structure.tensor_names():
            yield name, self.structure.tensors[name], self.tensors[name]

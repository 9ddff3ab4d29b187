"""Give a serialised ONNX graph the large tensors that it lacks, without the onnx package and without a copy.

A graph is kept without its large initialisers: names that nothing defines. Protobuf messages that follow one
another are one message, so what an engine must be told of these names is simply appended.
"""

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ELEMENT_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}
"""ONNX' TensorProto.DataType by numpy's word."""

_VARINT, _BYTES = 0, 2
_EXTERNAL = 1


def with_external_initialisers(graph: bytes, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The model with an initialiser for each tensor whose bytes are said to lie elsewhere."""
    place = message(13, message(1, b"location") + message(2, b"bound"))  # the engine never opens it
    lacking = b"".join(
        message(
            5,
            _dimensions(array)
            + _element(2, array)
            + message(8, name.encode())
            + place
            + number(14, _EXTERNAL),
        )
        for name, array in tensors.items()
    )
    return graph + message(7, lacking) if lacking else graph


def with_inputs(graph: bytes, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The model with an input of the graph for each tensor."""
    lacking = b""
    for name, array in tensors.items():
        shape = b"".join(message(1, number(1, size)) for size in array.shape)
        type_ = message(1, _element(1, array) + message(2, shape))
        lacking += message(11, message(1, name.encode()) + message(2, type_))
    return graph + message(7, lacking) if lacking else graph


def let_pages_go(tensors: Mapping[str, NDArray[Any]]) -> None:
    """Take mapped files out of this process' memory; they are read again should somebody look."""
    for array in tensors.values():
        owner: Any = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, memoryview):
            owner = owner.obj
        if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            owner.madvise(mmap.MADV_DONTNEED)


def _dimensions(array: NDArray[Any]) -> bytes:
    return b"".join(number(1, size) for size in array.shape)


def _element(field: int, array: NDArray[Any]) -> bytes:
    return number(field, ELEMENT_TYPES[array.dtype.name])


def number(field: int, value: int) -> bytes:
    """A field of a protobuf message."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def message(field: int, body: bytes) -> bytes:
    """A field that is itself a message, or a string."""
    return _varint(field << 3 | _BYTES) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)

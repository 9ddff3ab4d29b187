"""Tensors that differ from another in a few numbers only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 0.125
"""A difference in more than this share of the numbers is not sparse: place and value take 8 bytes each."""

_CHUNK = 1 << 15
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, slots=True)
class Sparse:
    """indices: uint32, ascending places in the flat tensor; values: what stands there. No loss."""

    indices: NDArray[np.uint32]
    values: NDArray[Any]


def equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays of one type have the same bytes; stops at the first difference."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    a, b = _words(one), _words(other)
    return all(np.array_equal(a[i : i + _CHUNK], b[i : i + _CHUNK]) for i in range(0, a.size, _CHUNK))


def sparse_difference(base: NDArray[Any], tensor: NDArray[Any], most: float = MOST) -> Sparse | None:
    """Where `tensor` differs from `base` (by bytes), or None if in more than this share of its numbers."""
    if base.dtype != tensor.dtype or base.shape != tensor.shape or tensor.size >= 1 << 32:
        return None
    a, b = _words(base), _words(tensor)
    found: list[NDArray[np.int64]] = []
    count, allowed = 0, int(tensor.size * most)
    for start in range(0, a.size, _CHUNK):
        differing = np.flatnonzero(a[start : start + _CHUNK] != b[start : start + _CHUNK]) + start
        count += differing.size
        if count > allowed:
            return None
        found.append(differing)
    indices = np.concatenate(found) if found else np.empty(0, np.int64)
    return Sparse(indices.astype(np.uint32), tensor.reshape(-1)[indices])


def with_sparse(base: NDArray[Any], difference: Sparse) -> NDArray[Any]:
    """The tensor that `sparse_difference` was given."""
    result = base.copy().reshape(-1)
    result[difference.indices] = difference.values
    return result.reshape(base.shape)


def _words(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1).view(_WORDS[array.dtype.itemsize])

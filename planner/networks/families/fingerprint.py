"""A few numbers of each network that tell which known base its filters are like.

Sampled numbers of sampled channels, each channel brought to length one. The cosine between two channels does
not see a factor of that channel, so folding a normalisation does not move a network away from its base. All
bases of a structure are compared in one step; only the nearest are then compared in full.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.families.filters import Filter

ALIKE = 0.5
"""Mean cosine from which a base is worth a full comparison; chance gives 0.2, a variant has 1."""

_FILTERS = 32
_CHANNELS = 2  # of each filter
_NUMBERS = 16  # of each channel


def fingerprint(filters: Mapping[str, Filter], tensors: Mapping[str, NDArray[Any]]) -> str:
    """Base 64 of int8[channels, 16]. Filters of fewer numbers a channel say nothing and are passed over."""
    telling = [f for f in filters.values() if f.per_channel >= _NUMBERS]
    rows = [_sample(f, tensors[f.name]) for f in _spread(telling, _FILTERS)]
    return base64.b64encode(b"".join(row.tobytes() for row in rows)).decode()


def likeness(known: Sequence[str], new: str) -> NDArray[np.float64]:
    """For each known fingerprint of the same structure 0 to 1: the mean cosine of the channels, sign aside.

    Where there is nothing to compare (no telling filter, or all are zero) it is 1.
    """
    one = _read([new])[0]
    if not len(one) or not known:
        return np.ones(len(known))
    all_ = _read(known)
    products = np.abs(np.einsum("bcn,cn->bc", all_, one))
    lengths = np.linalg.norm(all_, axis=2) * np.linalg.norm(one, axis=1)
    counted = lengths > 0
    cosines = np.where(counted, products / np.where(counted, lengths, 1), 0)
    return np.asarray(
        np.where(counted.any(axis=1), cosines.sum(axis=1) / np.maximum(counted.sum(axis=1), 1), 1)
    )


def _sample(filter_: Filter, tensor: NDArray[Any]) -> NDArray[np.int8]:
    channels = _even(filter_.channels, _CHANNELS)[:, None]
    numbers = _even(filter_.per_channel, _NUMBERS)[None, :]
    with np.errstate(all="ignore"):
        drawn = tensor.reshape(-1)[filter_.places(channels, numbers)].astype(np.float64)
        largest = np.abs(drawn).max(axis=1, keepdims=True)
        usable = np.isfinite(largest) & (largest > 0)
        return np.where(usable, np.rint(drawn / np.where(usable, largest, 1) * 127), 0).astype(np.int8)


def _read(texts: Sequence[str]) -> NDArray[np.float32]:
    """float32[texts, channels, 16]"""
    data = b"".join(base64.b64decode(text) for text in texts)
    channels = len(data) // len(texts) // _NUMBERS
    return np.frombuffer(data, np.int8).reshape(len(texts), channels, _NUMBERS).astype(np.float32)


def _spread(filters: Sequence[Filter], most: int) -> list[Filter]:
    return [filters[i] for i in _even(len(filters), most)] if filters else []


def _even(size: int, most: int) -> NDArray[np.int64]:
    """Up to `most` of the numbers below `size`, evenly spread."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.int64))

"""Learned tensors hold numbers: one NaN makes every output one, and no comparison would ever notice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engines.assembly import let_pages_go
from planner.networks.errors import NetworkRefused

_BLOCK = 1 << 24
"""Numbers looked at before the pages of a mapped file are let go: gigabytes are not to be held at once."""


def check_numbers(path: Path, constants: Mapping[str, NDArray[Any]]) -> None:
    """Raises: NetworkRefused (not-a-number), naming the first tensor that holds NaN. One number alone may be
    NaN: what a graph compares with."""
    for name, array in constants.items():
        if array.dtype.kind == "f" and array.size > 1 and _holds_nan(array):
            raise NetworkRefused(path, "not-a-number", f"tensor '{name}' holds NaN")


def _holds_nan(array: NDArray[Any]) -> bool:
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        with np.errstate(all="ignore"):
            total = (
                block.sum()
            )  # a tenth of the time of looking at each number; infinities may make it NaN too
        if np.isnan(total) and np.isnan(block).any():
            return True
        if flat.size > _BLOCK:
            let_pages_go({"": array})
    return False

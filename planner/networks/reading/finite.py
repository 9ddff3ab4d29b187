"""Learned tensors hold numbers: one NaN makes every output one, and no comparison would ever notice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.errors import NetworkRefused


def check_numbers(path: Path, constants: Mapping[str, NDArray[Any]]) -> None:
    """Raises: NetworkRefused (not-a-number), naming the first tensor that holds NaN. One number alone may be
    NaN: what a graph compares with."""
    for name, array in constants.items():
        if array.dtype.kind == "f" and array.size > 1 and _holds_nan(array):
            raise NetworkRefused(path, "not-a-number", f"tensor '{name}' holds NaN")


def _holds_nan(array: NDArray[Any]) -> bool:
    with np.errstate(all="ignore"):
        total = array.sum()  # a tenth of the time of looking at each number; infinities may make it NaN too
    return bool(np.isnan(total)) and bool(np.isnan(array).any())

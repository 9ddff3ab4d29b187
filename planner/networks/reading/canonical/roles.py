"""Which numbers of a network are learned, and which belong to its structure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.reading.canonical.graph import Node

LARGEST_CONSTANT = 4096
"""Elements. Larger arrays are kept as tensors whatever they are for."""
QUANTISED = {
    "DequantizeLinear", "QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
}  # fmt: skip
NORMALISATIONS = {"InstanceNormalization", "GroupNormalization", "LayerNormalization"}
PLACES = {
    "Resize": {1, 2, 3},
    "Pad": {1, 2, 3},
    "Clip": {1, 2},
    "OneHot": {1, 2},
    "Range": {0, 1, 2},
    "Dropout": {1, 2},
}
"""Operands that say what an operator does."""


def is_learned(node: Node, place: int, value: NDArray[Any]) -> bool:
    """Floating-point and quantised numbers are, unless the operator takes them as a setting.

    Numbers that JSON cannot hold (infinities) and large arrays count as learned too.
    """
    if value.size > LARGEST_CONSTANT or node.type in QUANTISED:
        return True
    if value.dtype.kind != "f":
        return False
    if not np.isfinite(value).all():
        return True
    if node.type in NORMALISATIONS and place > 0:  # the pass for scale and offset left ones and noughts
        return not (value == (1 if place == 1 else 0)).all()
    return place not in PLACES.get(node.type, ())

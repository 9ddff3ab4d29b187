"""Random inputs that a network may take: their sizes, where it leaves them free, and their numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.structure import Port

SIDES = (32, 48, 64, 96, 16, 128, 224, 256, 8, 1, 512, 320, 384, 192)
"""Tried in this order: networks with free sides want multiples of 2, 4 ... 32, a few of them a least size."""


def shapes(ports: Sequence[Port], sides: Sequence[int], *, batch: int = 1) -> tuple[tuple[int, ...], ...]:
    """The shape of each input. Free sizes get the sides in turn, in order of appearance.

    What is free on a first axis is the batch. Volumes get half of each side, so that no run takes long.
    """
    if any(len(port.shape) == 5 for port in ports):
        sides = [max(side // 2, 1) for side in sides]
    first = {port.shape[0] for port in ports if port.shape}
    free: dict[int | str, int] = {}
    given = 0
    for size in (size for port in ports for size in port.shape if isinstance(size, str)):
        if size not in free and size in first:
            free[size] = batch
        elif size not in free:
            free[size] = sides[given % len(sides)]
            given += 1
    return tuple(
        tuple(size if isinstance(size, int) else free[size] for size in port.shape) for port in ports
    )


def drawn(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Normally distributed numbers, or noughts and ones where they are whole."""
    if np.issubdtype(np.dtype(dtype), np.floating):
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)

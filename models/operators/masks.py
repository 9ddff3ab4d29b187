"""Where the True voxels of a mask are: its bounding box, so that kernels leave the empty rest alone."""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""bool[slices, rows, columns]"""
Box = tuple[slice, slice, slice]
"""Of (slices, rows, columns)."""


def bounding_box(mask: Mask) -> Box | None:
    """The smallest box that holds every True; None where there is none."""
    planes = np.any(mask, axis=2)
    slices, rows = np.flatnonzero(np.any(planes, axis=1)), np.flatnonzero(np.any(planes, axis=0))
    if not slices.size:
        return None
    columns = np.flatnonzero(np.any(mask[slices[0] : slices[-1] + 1], axis=(0, 1)))
    return (
        slice(int(slices[0]), int(slices[-1]) + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def box_around(mask: Mask, margin: tuple[int, int, int]) -> Box | None:
    """The bounding box of the mask with a margin in voxels, within the grid; None for an empty mask."""
    bounds = bounding_box(mask)
    if bounds is None:
        return None
    grown = [
        slice(max(side.start - steps, 0), min(side.stop + steps, size))
        for side, steps, size in zip(bounds, margin, mask.shape, strict=True)
    ]
    return grown[0], grown[1], grown[2]

"""What the network sees: the grid, the range of Hounsfield units, and the steps that lead there.

The same steps with the same parameters stand in `models/zoo/ct-lungs-net.yaml`; a test compares the two.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.operators.base import Operator
from models.operators.reorient import Reorient
from models.operators.resample import Resample
from models.operators.shrink import Shrink
from models.training.local import CONTEXT
from models.values import LabelMap, Volume

MIN_HU, MAX_HU = -1000.0, 400.0
SCALE = 1 / 1400
"""Hounsfield units become (HU + 1000) / 1400: 0 to 1."""
SPACING_MM = 2.0
"""Of rows and columns; slices stay as they come, up to 2.5 mm apart where the series has thinner ones."""
TO_GRID: tuple[Operator, ...] = (
    Reorient(orientation="SPL"),
    Shrink(spacing_mm=(2.5, 2.0, 2.0)),
    Resample(spacing_mm=(0.0, SPACING_MM, SPACING_MM)),
)


def on_grid(volume: Volume) -> Volume:
    """A volume in HU as the network gets it, before clipping."""
    for operator in TO_GRID:
        result = operator.apply([volume], CONTEXT)
        assert isinstance(result, Volume)
        volume = result
    return volume


def labels_on_grid(labels: LabelMap) -> NDArray[np.uint8]:
    """uint8[slices, rows, columns]: the label that fills most of each voxel of the network's grid."""
    shares = [
        on_grid(Volume(np.asarray(labels.labels == label, np.float32), labels.affine, "1")).voxels
        for label in range(len(labels.segments) + 1)
    ]
    return np.asarray(np.argmax(np.stack(shares), axis=0), np.uint8)


def centred(image: NDArray[np.float32], side: int, fill: float) -> NDArray[np.float32]:
    """float32[slices, side, side]: rows and columns cropped or padded alike on both sides."""
    for axis in (1, 2):
        size = image.shape[axis]
        start = max((size - side) // 2, 0)
        image = image.take(range(start, min(start + side, size)), axis)
        missing = side - image.shape[axis]
        padding = [(0, 0)] * 3
        padding[axis] = (missing // 2, missing - missing // 2)
        image = np.pad(image, padding, constant_values=fill)
    return image


def lungs_only(labels: LabelMap, left: str = "Left lung", right: str = "Right lung") -> LabelMap:
    """1 = left, 2 = right lung, all else background; segments that are absent stay empty."""
    lungs = np.zeros_like(labels.labels)
    for number, name in enumerate((left, right), start=1):
        if name in labels.segments:
            lungs[labels.labels == labels.segments.index(name) + 1] = number
    return replace(labels, labels=lungs, segments=("Left lung", "Right lung"))

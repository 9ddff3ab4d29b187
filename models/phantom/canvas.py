"""One axial slice being painted: shapes whose outlines are sums of a row term and a column term.

Only +, -, *, / and square roots are used on voxels: IEEE 754 rounds these alike on every machine.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.phantom.materials import Material

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Region:
    """A mask on a box of the slice: bool[rows of the box, columns of the box]."""

    rows: slice
    columns: slice
    mask: Mask


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse in mm; `boxy` from 0 (round) to 0.9 (nearly a box).

    front and back: its half-axes towards smaller and larger y. tilt: (cosine, sine) of the turn of its
    first axis from +x towards +y; a tilted ellipse is neither boxy nor of two halves.
    """

    x: float
    y: float
    width: float
    front: float
    back: float
    boxy: float = 0.0
    tilt: tuple[float, float] = (1.0, 0.0)

    def grown(self, mm: float) -> "Ellipse":
        """The same with every half-axis longer by `mm`."""
        return Ellipse(self.x, self.y, self.width + mm, self.front + mm, self.back + mm, self.boxy, self.tilt)


def ellipse(x: float, y: float, a: float, b: float, *, boxy: float = 0.0, tilt_deg: float = 0.0) -> Ellipse:
    """An ellipse about (x, y) with half-axes a and b in mm."""
    turn = math.radians(tilt_deg)
    tilt = (round(math.cos(turn), 6), round(math.sin(turn), 6))
    return Ellipse(x, y, a, b, b, boxy, tilt)


@dataclass(slots=True)
class Canvas:
    """material: uint8[rows, columns]; x: float32[columns] and y: float32[rows], mm, ascending evenly."""

    material: NDArray[np.uint8]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    _step: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        self._step = (_step(self.x), _step(self.y))

    def region(self, shape: Ellipse) -> Region | None:
        """The pixels whose centres lie within `shape`; None where it has no extent or misses the slice."""
        if min(shape.width, shape.front, shape.back) <= 0:
            return None
        cosine, sine = shape.tilt
        reach_x, front, back = shape.width, shape.front, shape.back
        if sine:
            reach_x = math.hypot(shape.width * cosine, shape.front * sine)
            front = back = math.hypot(shape.width * sine, shape.front * cosine)
        columns = _span(self.x, self._step[0], shape.x - reach_x, shape.x + reach_x)
        rows = _span(self.y, self._step[1], shape.y - front, shape.y + back)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        x, y = self.x[columns] - np.float32(shape.x), self.y[rows] - np.float32(shape.y)
        return Region(rows, columns, _tilted(shape, x, y) if sine else _upright(shape, x, y))

    def paint(self, shape: Ellipse, material: Material, *, within: Mask | None = None) -> None:
        """Give the pixels inside `shape` (and `within`, bool[rows, columns]) this material."""
        if region := self.region(shape):
            self.fill(region, material, within=within)

    def fill(self, region: Region, material: Material, *, within: Mask | None = None) -> None:
        """Give the pixels of `region` (and `within`, bool[rows, columns]) this material."""
        mask = region.mask if within is None else region.mask & within[region.rows, region.columns]
        np.copyto(self.material[region.rows, region.columns], np.uint8(material), where=mask)

    def mask(self, shape: Ellipse) -> Mask:
        """bool[rows, columns]: the pixels inside `shape`."""
        mask = np.zeros(self.material.shape, dtype=np.bool_)
        if region := self.region(shape):
            mask[region.rows, region.columns] = region.mask
        return mask

    def band(self, right: NDArray[np.float32], left: NDArray[np.float32], reach_mm: float) -> Region:
        """The pixels between x = -right and x = left (both float32[rows], mm, at most `reach_mm`)."""
        columns = _span(self.x, self._step[0], -reach_mm, reach_mm)
        x = self.x[columns]
        return Region(slice(0, len(self.y)), columns, (x > -right[:, None]) & (x < left[:, None]))


def _upright(shape: Ellipse, x: NDArray[np.float32], y: NDArray[np.float32]) -> Mask:
    u = x / np.float32(shape.width)
    u *= u
    v = y / np.where(y < 0, np.float32(shape.front), np.float32(shape.back))
    v *= v
    # u + v - boxy u v <= 1 within the bounding box, solved for u: a single comparison per pixel
    limit = (1 - v) / (1 - np.float32(shape.boxy) * np.minimum(v, 1))
    return np.asarray(u <= limit[:, None])


def _tilted(shape: Ellipse, x: NDArray[np.float32], y: NDArray[np.float32]) -> Mask:
    cosine, sine = np.float32(shape.tilt[0]), np.float32(shape.tilt[1])
    along = (x * cosine + (y * sine)[:, None]) / np.float32(shape.width)
    across = ((y * cosine)[:, None] - x * sine) / np.float32(shape.front)
    along *= along
    across *= across
    along += across
    return np.asarray(along <= 1)


def _step(axis: NDArray[np.float32]) -> float:
    return float(axis[1] - axis[0]) if len(axis) > 1 else 1.0


def _span(axis: NDArray[np.float32], step: float, low: float, high: float) -> slice:
    """Indices that cover low to high, a pixel to spare on either side."""
    first = float(axis[0])
    start = math.floor((low - first) / step)
    stop = math.ceil((high - first) / step) + 1
    return slice(min(max(start, 0), len(axis)), min(max(stop, 0), len(axis)))

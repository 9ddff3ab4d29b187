"""Tubes: paths in the patient along which ellipsoids are stamped into the volume of materials."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK_VOXELS = 1 << 18
"""Stamped at once; keeps index arrays within the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """path: float64[points, 3], template mm (x, y, z), straight between points.

    radius_mm is in the plane of slices, rise_mm along z.
    """

    path: NDArray[np.float64]
    radius_mm: float
    rise_mm: float

    def grown(self, mm: float) -> "Tube":
        """The same path, thicker by `mm` all around."""
        return Tube(self.path, self.radius_mm + mm, self.rise_mm + mm)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Volume of materials, uint8[slices, rows, columns], and where it lies.

    origin_mm and step_mm are (z, y, x) in template mm, float64.
    """

    material: NDArray[np.uint8]
    origin_mm: NDArray[np.float64]
    step_mm: NDArray[np.float64]

    def stamp_tubes(self, tubes: Sequence[Tube], becomes: NDArray[np.uint8]) -> None:
        """Stamp every tube; `becomes` (uint8[materials]) says what each material turns into."""
        sizes: dict[tuple[float, float], list[NDArray[np.float64]]] = {}
        for tube in tubes:
            sizes.setdefault((tube.radius_mm, tube.rise_mm), []).append(tube.path)
        for (radius_mm, rise_mm), paths in sizes.items():
            step_mm = max(min(radius_mm, rise_mm) / 3, float(self.step_mm[1]) / 2)
            self.stamp(_dense(paths, step_mm), radius_mm, rise_mm, becomes)

    def stamp(
        self, centres: NDArray[np.float64], radius_mm: float, rise_mm: float, becomes: NDArray[np.uint8]
    ) -> None:
        """Stamp an ellipsoid at each of float64[points, 3] (x, y, z)."""
        offsets = self._ellipsoid(radius_mm, rise_mm)
        index = np.rint((centres[:, ::-1] - self.origin_mm) / self.step_mm).astype(np.int64)
        shape = np.array(self.material.shape)
        reach = np.abs(offsets).max(axis=0)
        touching = ((index >= -reach) & (index < shape + reach)).all(axis=1)
        index = index[touching]
        whole = ((index >= reach) & (index < shape - reach)).all(axis=1)
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        flat = self.material.reshape(-1)
        shifts = (offsets @ strides).astype(np.int32 if flat.size < 2**31 else np.int64)
        first = np.unique((index[whole] @ strides).astype(shifts.dtype))
        batch = max(1, _CHUNK_VOXELS // len(shifts))
        for start in range(0, len(first), batch):
            at = (first[start : start + batch, None] + shifts).reshape(-1)
            flat[at] = becomes[flat[at]]
        for centre in index[~whole]:
            cut = centre + offsets
            cut = cut[((cut >= 0) & (cut < shape)).all(axis=1)]
            at = cut @ strides
            flat[at] = becomes[flat[at]]

    def _ellipsoid(self, radius_mm: float, rise_mm: float) -> NDArray[np.int64]:
        """int64[voxels, 3]: offsets (slice, row, column) whose centres lie within; the middle at least."""
        halves = np.array([rise_mm, radius_mm, radius_mm]) / self.step_mm
        dz, dy, dx = (np.arange(-int(h), int(h) + 1) for h in halves)
        z, y, x = (d / h for d, h in zip((dz, dy, dx), halves, strict=True))
        within = (z * z)[:, None, None] + (y * y)[:, None] + x * x <= 1
        middle = np.array([len(dz) // 2, len(dy) // 2, len(dx) // 2])
        offsets: NDArray[np.int64] = np.stack(np.nonzero(within), axis=1) - middle
        return offsets


def _dense(paths: Sequence[NDArray[np.float64]], step_mm: float) -> NDArray[np.float64]:
    """float64[points, 3] along all `paths`, no further than `step_mm` apart."""
    start = np.concatenate([path[:-1] for path in paths])
    way = np.concatenate([path[1:] for path in paths]) - start
    squared = way * way
    steps = (np.sqrt(squared[:, 0] + squared[:, 1] + squared[:, 2]) / step_mm).astype(np.int64) + 2
    part = np.repeat(np.arange(len(start)), steps)
    gone = np.arange(len(part)) - np.repeat(np.cumsum(steps) - steps, steps)
    return np.asarray(start[part] + way[part] * (gone / (steps[part] - 1))[:, None])

"""A volume fed to networks in pieces: whole, slice by slice, or tile by tile, mirrored as well if asked."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.operators.mirroring import mirrored
from models.operators.tiles import Compute, Patch, in_tiles

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """See models.operators.network.Network, whose parameters these are. Networks with equal walks over one
    volume can be computed together."""

    mode: Literal["whole", "slices", "sliding_window"]
    batch: int
    patch: Patch | None
    overlap: float
    multiple_of: int
    pad_value: float
    mirror: tuple[str, ...]

    def over(self, voxels: Array, compute: Compute) -> list[Array]:
        """float32[classes, slices, rows, columns] of each result of `compute`.

        voxels: float32[slices, rows, columns].
        """
        compute = mirrored(compute, self.mirror)
        if self.mode == "slices":
            return self._by_slices(voxels, compute)
        if self.patch is not None:
            return in_tiles(
                voxels,
                compute,
                patch=self.patch,
                overlap=self.overlap,
                batch=self.batch,
                pad_value=self.pad_value,
            )
        padded = padded_to(voxels, self.multiple_of, 3, self.pad_value)
        slices, rows, columns = voxels.shape
        return [
            np.ascontiguousarray(result[0, :, :slices, :rows, :columns])
            for result in compute(np.ascontiguousarray(padded[None, None]))
        ]

    def _by_slices(self, voxels: Array, compute: Compute) -> list[Array]:
        slices, rows, columns = voxels.shape
        values: list[Array] = []
        for start in range(0, slices, self.batch):
            part = padded_to(voxels[start : start + self.batch], self.multiple_of, 2, self.pad_value)
            for place, result in enumerate(compute(part[:, None])):
                if place == len(values):
                    values.append(np.empty((result.shape[1], slices, rows, columns), np.float32))
                values[place][:, start : start + self.batch] = result[:, :, :rows, :columns].swapaxes(0, 1)
        return values


def padded_to(voxels: Array, multiple: int, axes: int, value: float) -> Array:
    """`voxels` with its last `axes` axes padded at their end to a multiple."""
    if multiple == 1:
        return voxels
    padding = [(0, 0)] * (voxels.ndim - axes) + [(0, -size % multiple) for size in voxels.shape[-axes:]]
    return np.pad(voxels, padding, constant_values=value)

"""The scanner: materials become HU, averaged over the slice thickness, blurred and made noisy.

Noise is white before the kernel, so the kernel shapes edges and noise alike, as in reconstruction. It is
made of sums of uniform bytes: exact in float32, hence alike on every machine, and near enough to normal.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.phantom.materials import HU_OF_MATERIAL, Material
from models.phantom.spec import Kernel, PhantomSpec

Image = NDArray[np.float32]

GRAVITY_HU = 32.0
"""Lung at the back is this much denser than in the middle, at the front as much lighter."""
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
"""The range of 12 stored bits with an intercept of -1024."""

_TAPS: dict[Kernel, tuple[float, ...]] = {
    "smooth": (0.0625, 0.25, 0.375, 0.25, 0.0625),
    "standard": (0.2, 0.6, 0.2),
    "sharp": (-0.09, 0.14, 0.9, 0.14, -0.09),  # overshoots at edges, as bone and lung kernels do
}
"""One axis of the separable point spread function, per pixel; sums to 1."""
_BYTES_PER_SAMPLE = 2
_UNIFORM_VARIANCE = (256 * 256 - 1) / 12


@dataclass(frozen=True, slots=True, eq=False)
class Scanner:
    """What stays the same for all slices of one scan."""

    spec: PhantomSpec
    taps: tuple[np.float32, ...]
    gravity: Image
    """float32[rows, 1], HU."""
    noise: Image
    """float32[rows, columns]: HU of one step of the white noise, before the kernel."""

    @classmethod
    def of(cls, spec: PhantomSpec) -> "Scanner":
        """The scanner for this spec."""
        y, x = spec.axis_mm(1).astype(np.float32), spec.axis_mm(2).astype(np.float32)
        taps = _TAPS[spec.kernel]
        gain = sum(tap * tap for tap in taps)  # of the standard deviation: one axis' gain squared, twice
        step = spec.noise_hu / gain / math.sqrt(_BYTES_PER_SAMPLE * _UNIFORM_VARIANCE)
        far = (x * x)[None] + (y * y)[:, None]  # the middle of the body lets the fewest photons through
        strength = np.maximum(np.float32(1.05) - far * np.float32(0.45 / 180**2), np.float32(0.4))
        noise = strength * np.float32(step)
        gravity = np.clip(y / np.float32(85), -1, 1)[:, None] * np.float32(GRAVITY_HU)
        return cls(spec, tuple(np.float32(tap) for tap in taps), gravity, noise)

    def clean(self, material: NDArray[np.uint8]) -> Image:
        """float32[rows, columns], HU: an ideal image of uint8[rows, columns] materials."""
        image = np.take(HU_OF_MATERIAL, material.astype(np.intp))
        aerated = (material == Material.LUNG_LEFT) | (material == Material.LUNG_RIGHT)
        image += aerated * self.gravity
        return image

    def acquire(self, clean: Image, slice_index: int) -> Image:
        """float32[rows, columns], HU as whole numbers: kernel and noise put on an ideal image."""
        if self.spec.noise_hu > 0:
            white = self._white(slice_index)
            white *= self.noise
            white += clean
            clean = white
        image = _filtered(_filtered(clean, self.taps, 0), self.taps, 1)
        np.rint(image, out=image)
        return np.clip(image, np.float32(LOWEST_HU), np.float32(HIGHEST_HU), out=image)

    def _white(self, slice_index: int) -> Image:
        """float32[rows, columns], zero mean, independent pixels: sums of bytes less their mean."""
        rows, columns = self.spec.rows, self.spec.columns
        draw = np.random.Generator(np.random.PCG64([self.spec.seed, 4, slice_index]))
        size = rows * columns * _BYTES_PER_SAMPLE
        words = draw.integers(0, 2**64 - 1, -(-size // 8), np.uint64, endpoint=True)
        octets = words.astype("<u8", copy=False).view(np.uint8)[:size]
        halves = octets.reshape(_BYTES_PER_SAMPLE, rows, columns)
        white: Image = np.add(halves[0], halves[1], dtype=np.float32)
        white -= np.float32(255)
        return white


def slab_weights(thickness_steps: float) -> NDArray[np.float32]:
    """float32[odd]: how much each of the neighbouring planes counts in a slab, sum 1.

    `thickness_steps` is the slab's thickness over the planes' distance.
    """
    reach = max(0, int(np.ceil((thickness_steps - 1) / 2 - 1e-9)))
    planes = np.arange(-reach, reach + 1)
    half = thickness_steps / 2
    overlap = np.minimum(planes + 0.5, half) - np.maximum(planes - 0.5, -half)
    return np.asarray(overlap / overlap.sum(), dtype=np.float32)


def _filtered(image: Image, taps: tuple[np.float32, ...], axis: int) -> Image:
    """Correlate along one axis, symmetric taps, edge pixels repeated."""
    reach = len(taps) // 2
    pad = [(0, 0), (0, 0)]
    pad[axis] = (reach, reach)
    padded = np.pad(image, pad, mode="edge")
    size = image.shape[axis]

    def shifted(by: int) -> Image:
        part = slice(reach + by, reach + by + size)
        return padded[part] if axis == 0 else padded[:, part]

    result = shifted(0) * taps[reach]
    for by in range(1, reach + 1):
        pair = shifted(by) + shifted(-by)
        pair *= taps[reach + by]
        result += pair
    return result

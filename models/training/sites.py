"""Sites: ways of scanning that a variant is made for. Phantoms are scanned so, real series filtered so."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.phantom import PhantomSpec
from models.training.data import CHEST_MM, RealSeries, Slices, joined, on_network_grid, phantom_slices
from models.values import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A way of scanning. scan: settings of a PhantomSpec; the rest is done to real series in HU."""

    name: str
    scan: dict[str, Any] = field(default_factory=dict)
    blur_pixels: float = 0.0
    """Standard deviation of a Gaussian in the slice."""
    sharpen: float = 0.0
    """How often the difference to a Gaussian of 1 pixel is added."""
    noise_hu: float = 0.0
    thickness_mm: float = 0.0
    """Slices are averaged over so much, and lie so far apart."""

    def phantom(self, seed: int) -> PhantomSpec:
        """A patient scanned here: the whole chest, 512 by 512 pixels of 0.75 mm."""
        spacing_mm = self.thickness_mm or 5.0
        slices = round(CHEST_MM / spacing_mm)
        settings = {"slice_thickness_mm": self.thickness_mm or 1.5, "noise_hu": 15.0, **self.scan}
        return PhantomSpec(seed=seed, slices=slices, spacing_mm=(spacing_mm, 0.75, 0.75), **settings)

    def scanned(self, volume: Volume, seed: int) -> Volume:
        """A real volume in HU (slices along the first axis) as if scanned here; slices may become fewer."""
        from scipy.ndimage import gaussian_filter

        voxels = volume.voxels
        if self.blur_pixels:
            voxels = gaussian_filter(voxels, (0, self.blur_pixels, self.blur_pixels))
        if self.sharpen:
            voxels = voxels + self.sharpen * (voxels - gaussian_filter(voxels, (0, 1, 1)))
        if self.noise_hu:
            noise = np.random.default_rng(seed).standard_normal(voxels.shape, np.float32)
            noise = gaussian_filter(noise, (0, 0.6, 0.6))
            voxels = voxels + np.float32(self.noise_hu / noise.std()) * noise
        return replace(volume, voxels=self._thick(np.maximum(voxels, -1024), volume.spacing_mm[0]))

    def _thick(self, voxels: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float32]:
        """Every slice averaged with its neighbours over the thickness; the grid stays."""
        from scipy.ndimage import uniform_filter1d

        count = round(self.thickness_mm / spacing_mm)
        return uniform_filter1d(voxels, count, axis=0, mode="nearest") if count > 1 else voxels


SITES = (
    Site(name="sharp-kernel", scan={"kernel": "sharp", "noise_hu": 60.0}, sharpen=1.5, noise_hu=40.0),
    Site(name="low-dose", scan={"noise_hu": 110.0}, noise_hu=110.0),
    Site(name="thick-slices", scan={"noise_hu": 8.0}, thickness_mm=8.0),
    Site(name="smooth-kernel", scan={"kernel": "smooth", "noise_hu": 6.0}, blur_pixels=2.0),
)


def site_slices(site: Site, seeds: Sequence[int], real: Sequence[RealSeries]) -> Slices:
    """Phantoms scanned at the site and real series simulated for it, on the network's grid."""
    parts = [phantom_slices([site.phantom(seed) for seed in seeds])]
    parts += [on_network_grid(site.scanned(s.volume, n), s.lungs) for n, s in enumerate(real)]
    return joined(parts)

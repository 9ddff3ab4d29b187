"""What a slice may also have looked like: other patients, other scanners, other disease."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, one_hot, pad

from models.training.grid import MAX_HU, MIN_HU, SCALE

AIR_HU = -1000.0


class Augmenter:
    """Random changes, drawn from one generator. Probabilities and ranges are guesses that held."""

    def __init__(self, generator: torch.Generator, side: int) -> None:
        self._draw = generator
        self._side = side

    def __call__(self, hu: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """hu: float32[n, rows, columns], labels: uint8 alike -> (input float32[n, 1, side, side] as the
        network gets it, labels int64[n, side, side])."""
        hu, classes = self._moved(hu[:, None], one_hot(labels.long(), 3).movedim(-1, 1).float())
        labels = classes.argmax(1)
        lung = (labels > 0)[:, None].float()
        hu = self._other_lungs(hu, lung)
        hu = self._with_gas(hu, lung)
        hu = self._other_tissue(hu)
        hu = self._other_scanner(hu)
        hu, labels = self._cut_off(hu, labels)
        hu, labels = self._mirrored(hu, labels)
        return normalised(hu), labels

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(n, 1, 1, 1, generator=self._draw)).float()

    def _chosen(self, n: int, probability: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, generator=self._draw) < probability).float()

    def _field(self, n: int, cells: int) -> Tensor:
        """float32[n, 1, side, side]: smooth, of mean 0 and standard deviation about 1."""
        coarse = torch.randn(n, 1, cells + 2, cells + 2, generator=self._draw)
        side = self._side
        return 1.6 * interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)

    def _moved(self, hu: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Turned, scaled, shifted and bent alike; what comes in from outside is air."""
        n = len(hu)
        angle = self._uniform(n, -0.35, 0.35).flatten()
        zoom = (self._side / hu.shape[-1]) / self._uniform(n, 0.75, 1.3).flatten()
        aspect = self._uniform(n, 0.88, 1.14).flatten()
        shift = 0.18 * (2 * torch.rand(n, 2, generator=self._draw) - 1)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        first = torch.stack([cos * aspect, -sin, shift[:, 0]], 1)
        second = torch.stack([sin, cos / aspect, shift[:, 1]], 1)
        moves = torch.stack([first, second], 1)
        grid = affine_grid(moves, [n, 1, self._side, self._side], align_corners=False)
        bend = torch.cat([self._field(n, 5), self._field(n, 5)], 1).movedim(1, -1)
        grid = grid + bend * 0.018 * self._chosen(n, 0.7)
        hu = grid_sample(hu - AIR_HU, grid, align_corners=False) + AIR_HU
        return hu, grid_sample(classes, grid, align_corners=False)

    def _other_lungs(self, hu: Tensor, lung: Tensor) -> Tensor:
        """Denser or thinner lung, unevenly; in some, opacities, consolidation or effusion."""
        n = len(hu)
        aerated = lung * torch.sigmoid((-450 - hu) / 60)
        hu = hu + aerated * (self._uniform(n, -110, 170) + self._field(n, 4) * self._uniform(n, 0, 60))
        fine = avg_pool2d(torch.randn(hu.shape, generator=self._draw), 3, 1, 1)
        hu = hu + aerated * fine * self._uniform(n, 0, 150)
        dense = torch.sigmoid((self._field(n, 7) - self._uniform(n, 0.8, 2.2)) * 8)
        dense = dense * lung * self._chosen(n, 0.35)
        return hu + dense * (self._uniform(n, -650, 60) - hu)

    def _with_gas(self, hu: Tensor, lung: Tensor) -> Tensor:
        """Gas where there is no lung: bowel, stomach, oesophagus, trachea."""
        n = len(hu)
        inside = avg_pool2d((hu > -250).float(), 5, 1, 2) * (1 - avg_pool2d(lung, 3, 1, 1))
        shape = torch.sigmoid((self._field(n, 9) - self._uniform(n, 1.0, 2.2)) * 25)
        gas = shape * (inside > 0.75).float() * self._chosen(n, 0.35)
        return hu + gas * (self._uniform(n, -1000, -930) - hu)

    def _other_tissue(self, hu: Tensor) -> Tensor:
        """Contrast agent, other tube voltage: tissue denser or less so, unevenly."""
        n = len(hu)
        tissue = torch.sigmoid((hu + 150) / 40)
        return hu + tissue * (self._uniform(n, -60, 60) + self._field(n, 8) * self._uniform(n, 0, 45))

    def _other_scanner(self, hu: Tensor) -> Tensor:
        """Smoother or sharper, noisier, calibrated otherwise."""
        n = len(hu)
        blurred = avg_pool2d(pad(hu, (1, 1, 1, 1), mode="replicate"), 3, 1)
        hu = hu + (blurred - hu) * self._uniform(n, -0.7, 1.0) * self._chosen(n, 0.7)
        noise = torch.randn(hu.shape, generator=self._draw)
        coarse = avg_pool2d(noise, 3, 1, 1) * 3
        noise = noise + (coarse - noise) * self._chosen(n, 0.5)
        hu = hu + noise * self._uniform(n, 0, 1) ** 2 * 90
        return hu + self._uniform(n, -25, 25) + (hu + 1000) * self._uniform(n, -0.04, 0.04)

    def _cut_off(self, hu: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A round field of view, beyond which scanners write air."""
        n = len(hu)
        line = torch.linspace(-1, 1, self._side)
        outside = (line[:, None] ** 2 + line[None] ** 2) > self._uniform(n, 0.75, 1.1) ** 2
        outside = outside & (self._chosen(n, 0.3) > 0)
        return torch.where(outside, AIR_HU, hu), torch.where(outside[:, 0], 0, labels)

    def _mirrored(self, hu: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Half of them from left to right, sides renamed: the side is where a lung lies, not its shape."""
        mirror = torch.rand(len(hu), generator=self._draw) < 0.5
        swapped = torch.tensor([0, 2, 1])[labels].flip(-1)
        hu = torch.where(mirror[:, None, None, None], hu.flip(-1), hu)
        return hu, torch.where(mirror[:, None, None], swapped, labels)


def normalised(hu: Tensor) -> Tensor:
    """HU as the network gets them: clipped, then 0 to 1."""
    return (hu.clamp(MIN_HU, MAX_HU) - MIN_HU) * SCALE


def learning_rate(step: int, steps: int, peak: float) -> float:
    """One cycle: up over the first twentieth, then down along a cosine."""
    rise = max(steps // 20, 1)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))

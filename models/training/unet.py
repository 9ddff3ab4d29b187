"""The network of `ct-lungs-net`: a small 2D U-Net, one normalisation after every convolution."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

WIDTHS = (8, 16, 32, 64, 96)
"""Channels of the levels, from full resolution down; each level halves rows and columns."""
CLASSES = ("Background", "Left lung", "Right lung")


class Unit(nn.Module):  # type: ignore[misc] # torch is not typed for us
    """Convolution 3x3 without bias, BatchNorm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, image: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.conv(image))
        return torch.relu(normalised)


class UNet(nn.Module):  # type: ignore[misc]
    """float32[n, 1, rows, columns] (sides multiples of 16) -> logits float32[n, 3, rows, columns].

    Down by 2x2 maximum, up by repeating pixels; what comes up is joined with the skip as [up, skip].
    """

    def __init__(self) -> None:
        super().__init__()
        above = (1, *WIDTHS)
        self.down = nn.ModuleList(
            nn.Sequential(Unit(above[level], width), Unit(width, width)) for level, width in enumerate(WIDTHS)
        )
        self.up = nn.ModuleList(
            nn.Sequential(Unit(WIDTHS[level + 1] + width, width), Unit(width, width))
            for level, width in enumerate(WIDTHS[:-1])
        )
        self.head = nn.Conv2d(WIDTHS[0], len(CLASSES), 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            image = block(image if level == 0 else nn.functional.max_pool2d(image, 2))
            skips.append(image)
        for level in reversed(range(len(self.up))):
            image = nn.functional.interpolate(image, scale_factor=2.0, mode="nearest")
            image = self.up[level](torch.cat([image, skips[level]], 1))
        logits: Tensor = self.head(image)
        return logits

    def norms(self) -> Iterator[nn.BatchNorm2d]:
        """All normalisations, in the order of the graph."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                yield module

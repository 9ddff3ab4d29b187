"""One picture of a volume and what was found in it: axial slices, a coronal and a sagittal view, coloured masks.

Drawn as radiologists hang films: the patient's right is on the left of the picture, the front on top.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.values import LabelMap, Volume

if TYPE_CHECKING:  # Pillow is only needed to draw
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Colour: TypeAlias = tuple[int, int, int]
Window: TypeAlias = tuple[float, float]
"""(centre, width) in the volume's unit, as DICOM's Window Center and Width."""

PALETTE: tuple[Colour, ...] = (
    (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178),
    (170, 220, 120), (190, 160, 250), (255, 150, 150), (120, 220, 210), (200, 200, 200),
)  # fmt: skip
"""First the colours of Okabe and Ito, told apart with colour-blind eyes; used in turn where segments are more."""
LUNG_WINDOW: Window = (-500.0, 1500.0)
SOFT_TISSUE_WINDOW: Window = (40.0, 400.0)

_FILL = 0.35
"""Share of the colour inside a contour."""
_GAP, _LINE_PX, _FONT_PX = 4, 18, 13

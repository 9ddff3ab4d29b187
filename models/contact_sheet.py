"""One picture of a volume and what was found in it: axial, coronal and sagittal views under coloured masks.

Drawn as radiologists hang films: the patient's right is on the left of the picture, the front on top.
"""

from collections.abc import Sequence
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
    (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0),
    (0, 114, 178), (170, 220, 120), (190, 160, 250), (255, 150, 150), (120, 220, 210), (200, 200, 200),
)  # fmt: skip
"""First the colours of Okabe and Ito, told apart with colour-blind eyes; taken in turn."""
LUNG_WINDOW: Window = (-500.0, 1500.0)
SOFT_TISSUE_WINDOW: Window = (40.0, 400.0)

_FILL = 0.35
"""Share of the colour inside a contour."""
_GAP, _LINE_PX, _FONT_PX = 4, 18, 13


@dataclass(frozen=True, slots=True, eq=False)
class _Planes:
    """voxels float32, masks uint8, all [z upwards, y backwards, x to the left]; spacing in that order."""

    voxels: NDArray[np.float32]
    masks: tuple[NDArray[np.uint8], ...]
    spacing_mm: tuple[float, float, float]
    origin_z_mm: float

    @classmethod
    def of(cls, volume: Volume, masks: Sequence[LabelMap]) -> "_Planes":
        """Axes swapped and turned round, whatever way the volume was stacked; nothing is resampled."""
        directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
        order, flips = _nearest_axes(directions)
        voxels = np.flip(volume.voxels.transpose(order), flips)
        labels = tuple(np.flip(mask.labels.transpose(order), flips) for mask in masks)
        z, y, x = (volume.spacing_mm[axis] for axis in order)
        first = float(volume.affine[2, 3])
        last = first + float(volume.affine[2, order[0]]) * (voxels.shape[0] - 1)
        return cls(voxels, labels, (z, y, x), min(first, last))


def contact_sheet(
    volume: Volume,
    masks: Sequence[LabelMap],
    *,
    columns: int = 6,
    rows: int = 2,
    window: Window = LUNG_WINDOW,
    caption: str = "",
    colours: Sequence[Colour] = PALETTE,
    tile_px: int = 240,
) -> bytes:
    """Draw `rows` x `columns` axial slices, evenly spread, above one coronal and one sagittal view.

    Args:
        masks: on the grid of `volume`; their segments take `colours` in turn, in order, and may overlap.
        window: what is black to what is white.
        caption: one line on top; must not name a patient.
        tile_px: width of an axial slice on the picture.

    Returns: a PNG file. Raises: ValueError if a mask lies on another grid.
    """
    from PIL import Image, ImageDraw, ImageFont

    if any(mask.labels.shape != volume.voxels.shape for mask in masks):
        raise ValueError("every mask must have the shape of the volume")
    planes = _Planes.of(volume, masks)
    depth, height, width = planes.voxels.shape
    z_mm, y_mm, x_mm = planes.spacing_mm
    px_per_mm = tile_px / (width * x_mm)
    painter = _Painter(window, _colour_tables(masks, colours))
    tile_h = max(1, round(height * y_mm * px_per_mm))
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, rows * columns) + 2).round().astype(int)[1:-1])
    used_rows = -(-len(chosen) // columns)

    middle_y, middle_x = _middle(planes.masks, 1, height), _middle(planes.masks, 2, width)
    zoom = px_per_mm * min(2.0, 3.0 * tile_h / max(1.0, depth * z_mm * px_per_mm))
    view_h = max(1, round(depth * z_mm * zoom))
    coronal = painter.draw(
        _cut(planes, (slice(None, None, -1), middle_y)), (round(width * x_mm * zoom), view_h)
    )
    sagittal = painter.draw(
        _cut(planes, (slice(None, None, -1), slice(None), middle_x)), (round(height * y_mm * zoom), view_h)
    )

    segments = [name for mask in masks for name in mask.segments]
    legend_w = 30 + max([len(name) for name in segments], default=0) * _FONT_PX * 6 // 10
    top = _LINE_PX + 2 * _GAP
    views_y = top + used_rows * (tile_h + _GAP)
    legend_h = len(segments) * _LINE_PX
    sheet_w = max(columns * (tile_px + _GAP), coronal.width + sagittal.width + legend_w + 3 * _GAP) + _GAP
    sheet = Image.new("RGB", (sheet_w, views_y + max(view_h, legend_h) + _GAP), (18, 18, 18))
    pen = ImageDraw.Draw(sheet)
    pen.font = ImageFont.load_default(_FONT_PX)
    pen.text((_GAP, _GAP), caption, fill="white")
    for n, index in enumerate(chosen):
        at = (_GAP + n % columns * (tile_px + _GAP), top + n // columns * (tile_h + _GAP))
        sheet.paste(painter.draw(_cut(planes, (int(index),)), (tile_px, tile_h)), at)
        _letters(pen, at, (tile_px, tile_h), "R", "L")
        pen.text((at[0] + 4, at[1] + 2), f"z {planes.origin_z_mm + index * z_mm:.0f} mm", fill="white")
    for view, x, left, right in ((coronal, _GAP, "R", "L"), (sagittal, 2 * _GAP + coronal.width, "A", "P")):
        sheet.paste(view, (x, views_y))
        _letters(pen, (x, views_y), view.size, left, right)
    _legend(pen, (3 * _GAP + coronal.width + sagittal.width, views_y), segments, colours)
    buffer = BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _nearest_axes(directions: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which array axes run most nearly along z, y, x, and which of these (0, 1, 2) must be turned round."""
    free = [0, 1, 2]
    order: list[int] = []
    for patient_axis in (2, 1, 0):
        best = max(free, key=lambda axis: abs(directions[patient_axis, axis]))
        free.remove(best)
        order.append(best)
    turned = (n for n, patient_axis in enumerate((2, 1, 0)) if directions[patient_axis, order[n]] < 0)
    return tuple(order), tuple(turned)


def _cut(planes: _Planes, where: tuple[int | slice, ...]) -> list[NDArray[np.float32] | NDArray[np.uint8]]:
    """The 2D cut of the voxels and of each mask."""
    return [planes.voxels[where], *(mask[where] for mask in planes.masks)]


def _middle(masks: Sequence[NDArray[np.uint8]], axis: int, length: int) -> int:
    """Index along `axis` where most of the masks lies; the middle of the volume if they are empty."""
    others = tuple(n for n in range(3) if n != axis)
    extent = np.zeros(length, dtype=np.int64)
    for mask in masks:
        extent += np.count_nonzero(mask, axis=others)
    return int(extent.argmax()) if extent.any() else length // 2


def _colour_tables(masks: Sequence[LabelMap], colours: Sequence[Colour]) -> list[NDArray[np.float32]]:
    """Per mask float32[256, 3]: the colour of each label; labels beyond the segments are white."""
    tables, taken = [], 0
    for mask in masks:
        table = np.full((256, 3), 255, dtype=np.float32)
        for label in range(1, len(mask.segments) + 1):
            table[label] = colours[(taken + label - 1) % len(colours)]
        taken += len(mask.segments)
        tables.append(table)
    return tables


@dataclass(frozen=True, slots=True, eq=False)
class _Painter:
    window: Window
    tables: list[NDArray[np.float32]]

    def draw(self, cut: Sequence[NDArray[np.float32] | NDArray[np.uint8]], size: tuple[int, int]) -> "Image":
        """A cut through voxels and masks, scaled to (width, height) pixels; masks filled and outlined."""
        from PIL import Image

        size = (max(1, size[0]), max(1, size[1]))
        centre, width = self.window
        grey = np.clip((cut[0] - (centre - width / 2)) * (255 / width), 0, 255).astype(np.uint8)
        scaled = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
        picture = np.repeat(scaled[..., None], 3, axis=2)
        for mask, table in zip(cut[1:], self.tables, strict=True):
            flat = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
            labels = np.asarray(flat.resize(size, Image.Resampling.NEAREST))
            share = np.where(_edges(labels), np.float32(0.9), np.float32(_FILL)) * (labels > 0)
            picture += (table[labels] - picture) * share[..., None]
        return Image.fromarray(picture.astype(np.uint8))


def _edges(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """bool, same shape: pixels with a neighbour above, below or beside of another label."""
    edges = np.zeros(labels.shape, dtype=np.bool_)
    down, along = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= along
    edges[:, :-1] |= along
    return edges


def _letters(pen: "ImageDraw", at: tuple[int, int], size: tuple[int, int], left: str, right: str) -> None:
    """Mark the sides of a view that lies at `at`."""
    y = at[1] + size[1] // 2
    for x, letter, anchor in ((at[0] + 4, left, "lm"), (at[0] + size[0] - 4, right, "rm")):
        pen.text((x, y), letter, fill="white", anchor=anchor)


def _legend(
    pen: "ImageDraw", at: tuple[int, int], segments: Sequence[str], colours: Sequence[Colour]
) -> None:
    for n, name in enumerate(segments):
        x, y = at[0], at[1] + n * _LINE_PX
        pen.rectangle((x, y + 2, x + 12, y + 14), fill=colours[n % len(colours)])
        pen.text((x + 20, y), name, fill="white")

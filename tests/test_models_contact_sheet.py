"""The contact sheet: the right way round, the right colours, the right proportions."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from models.contact_sheet import PALETTE, contact_sheet
from models.values import HU, LabelMap, Volume

BLUE, ORANGE = PALETTE[:2]
TILE, TOP, GAP = 120, 26, 4


def affine(spacing: tuple[float, float, float]) -> np.ndarray:
    matrix = np.zeros((4, 4))
    matrix[2, 0], matrix[1, 1], matrix[0, 2] = spacing
    matrix[3, 3] = 1
    return matrix


def halves(spacing: tuple[float, float, float] = (4.0, 2.0, 2.0)) -> tuple[Volume, LabelMap]:
    """Left half (x > 0) is segment 1, right half segment 2."""
    shape = (20, 40, 60)
    labels = np.full(shape, 2, dtype=np.uint8)
    labels[..., 30:] = 1
    grid = affine(spacing)
    return Volume(np.full(shape, -500, np.float32), grid, HU), LabelMap(labels, grid, ("Left", "Right"))


def picture(*args: object, **settings: object) -> np.ndarray:
    png = contact_sheet(*args, tile_px=TILE, **settings)  # type: ignore[arg-type]
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)


def nearer(pixel: np.ndarray, one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel - one).sum() < np.abs(pixel - other).sum())


def left_and_right(sheet: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A pixel of the first tile on the picture's right side and one on its left."""
    y = TOP + 20
    return sheet[y, GAP + 3 * TILE // 4], sheet[y, GAP + TILE // 4]


def test_the_patients_left_is_on_the_right_of_the_picture() -> None:
    volume, mask = halves()
    on_right, on_left = left_and_right(picture(volume, [mask]))
    assert nearer(on_right, BLUE, ORANGE)
    assert nearer(on_left, ORANGE, BLUE)


def test_a_volume_stacked_another_way_is_drawn_the_same() -> None:
    volume, mask = halves()
    order = (2, 0, 1)
    turned = volume.affine[:, [*order, 3]].copy()
    turned[:3, 3] += turned[:3, 0] * 59
    turned[:3, 0] *= -1

    def other(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(order)[::-1])

    same = picture(
        Volume(other(volume.voxels), turned, HU), [LabelMap(other(mask.labels), turned, mask.segments)]
    )
    np.testing.assert_array_equal(same, picture(volume, [mask]))


def test_views_keep_the_proportions_of_the_body() -> None:
    volume, mask = halves()
    flat = picture(volume, [mask])
    volume, mask = halves((6.0, 2.0, 2.0))
    tall = picture(volume, [mask])
    # the lower views have 2 px to the mm, of 20 slices that are 4 and 6 mm apart
    assert tall.shape[0] - flat.shape[0] == 2 * 20 * (6 - 4)


def test_without_masks_there_is_only_grey() -> None:
    volume, _ = halves()
    sheet = picture(volume, [])
    assert (sheet.max(axis=2) == sheet.min(axis=2)).all()


def test_the_window_says_what_is_black_and_what_is_white() -> None:
    volume, _ = halves()
    assert (left_and_right(picture(volume, [], window=(1000.0, 100.0)))[0] == 0).all()
    assert (left_and_right(picture(volume, [], window=(-2000.0, 100.0)))[0] == 255).all()


def test_segments_of_several_masks_have_colours_of_their_own() -> None:
    volume, mask = halves()
    second = LabelMap((mask.labels == 1).astype(np.uint8), mask.affine, ("Third",))
    on_right, _ = left_and_right(
        picture(volume, [LabelMap(mask.labels * 0, mask.affine, mask.segments), second])
    )
    assert nearer(on_right, PALETTE[2], BLUE)


def test_a_mask_on_another_grid_is_refused() -> None:
    volume, mask = halves()
    with pytest.raises(ValueError, match="shape"):
        contact_sheet(volume, [LabelMap(mask.labels[1:], mask.affine, mask.segments)])


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 1, 9), (300, 4, 4)])
def test_odd_shapes_still_give_a_picture(shape: tuple[int, int, int]) -> None:
    volume = Volume(np.zeros(shape, np.float32), affine((1.0, 1.0, 1.0)), HU)
    assert picture(volume, [], columns=3, caption="a caption").ndim == 3

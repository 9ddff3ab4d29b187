"""Left is the patient's left, however the array lies and whether or not the lungs touch."""

from itertools import permutations, product

import numpy as np
import pytest

from models.operators.masks import Mask
from models.operators.split_left_right import SplitLeftRight
from models.values import LabelMap
from tests.imaging_cases import applied, grid, mask

SPACING = (3.0, 3.0, 3.0)


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
    index = np.stack(np.meshgrid(*map(np.arange, (20, 30, 60)), indexing="ij"))
    offsets = (index - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
    inside: Mask = (offsets**2).sum(axis=0) <= 1
    return inside


RIGHT = ellipsoid((10, 15, 16), (9, 12, 12))  # columns go to the patient's left
LEFT = ellipsoid((10, 15, 43), (9, 12, 12))
BRIDGE = ellipsoid((10, 15, 30), (2, 2, 8))


def turned(given_map: LabelMap, axes: tuple[int, ...], flips: tuple[bool, ...]) -> LabelMap:
    labels, affine = given_map.labels.transpose(axes), given_map.affine[:, [*axes, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            labels = np.flip(labels, axis)
            affine[:3, 3] += affine[:3, axis] * (labels.shape[axis] - 1)
            affine[:3, axis] *= -1
    return LabelMap(np.ascontiguousarray(labels), affine, given_map.segments)


@pytest.mark.parametrize("touching", [False, True])
@pytest.mark.parametrize(
    ("axes", "flips"), list(product(permutations(range(3)), [(0, 0, 0), (1, 0, 1), (0, 1, 1)]))
)
def test_left_is_the_patients_left_in_any_orientation(
    axes: tuple[int, ...], flips: tuple[bool, ...], touching: bool
) -> None:
    both = LEFT | RIGHT | BRIDGE if touching else LEFT | RIGHT
    truth = mask(np.where(LEFT, 1, np.where(RIGHT, 2, 0)), grid(SPACING), "Left lung", "Right lung")
    split = applied(SplitLeftRight(), turned(mask(both, grid(SPACING)), axes, flips))
    expected = turned(truth, axes, flips).labels
    assert split.segments == ("Left lung", "Right lung")
    np.testing.assert_array_equal(split.labels[expected > 0], expected[expected > 0])
    np.testing.assert_array_equal(split.labels > 0, turned(mask(both), axes, flips).labels > 0)


def test_a_single_lung_takes_its_side_from_the_body() -> None:
    body = np.zeros((20, 30, 60))
    body[:, 2:28, 1:59] = 1
    for lung, side in ((LEFT, 1), (RIGHT, 2)):
        split = applied(SplitLeftRight(), mask(lung, grid(SPACING)), mask(body, grid(SPACING)))
        assert set(split.labels[lung]) == {side}


def test_an_arm_beside_the_body_does_not_move_the_midline_between_two_lungs() -> None:
    body = np.zeros((20, 30, 60))
    body[:, :, :31] = 1  # only the right half of the body is there
    split = applied(SplitLeftRight(), mask(LEFT | RIGHT, grid(SPACING)), mask(body, grid(SPACING)))
    assert set(split.labels[LEFT]) == {1}
    assert set(split.labels[RIGHT]) == {2}


def test_lungs_without_a_neck_are_cut_at_the_midline() -> None:
    block = np.zeros((20, 30, 60))
    block[:, 5:25, 10:50] = 1
    split = applied(SplitLeftRight(), mask(block, grid(SPACING)))
    assert abs(int((split.labels == 1).sum()) - int((split.labels == 2).sum())) <= 20 * 20
    assert (split.labels[:, 5:25, 45] == 1).all()


def test_no_lungs_are_no_lungs() -> None:
    assert not applied(SplitLeftRight(), mask(np.zeros((20, 30, 60)), grid(SPACING))).labels.any()

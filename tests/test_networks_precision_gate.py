"""The gate: labels in another precision are held against those of fp32, segment by segment."""

import numpy as np
import pytest

from planner.networks.precision.gate import Gate, judge, worst
from tests.written_graphs import Array


def block(size: int, voxels: int, label: int = 1) -> Array:
    labels = np.zeros(size, np.int32)
    labels[:voxels] = label
    return labels


def test_equal_labels_pass_and_segments_empty_on_both_sides_are_left_out() -> None:
    verdict = judge("case", [block(2000, 500, label=7)], [block(2000, 500, label=7)], Gate())
    assert verdict.passed
    assert (verdict.least_dice, verdict.mean_dice, verdict.volume_change, verdict.segments) == (1, 1, 0, 1)


def test_nothing_on_either_side_passes() -> None:
    verdict = judge("case", [block(100, 0)], [block(100, 0)], Gate())
    assert (verdict.passed, verdict.least_dice, verdict.mean_dice, verdict.segments) == (True, 1, 1, 0)


def test_a_segment_below_the_bar_is_refused_with_its_dice() -> None:
    found = np.roll(block(2000, 500), 20)
    verdict = judge("chest", [block(2000, 500)], [found], Gate())
    assert not verdict.passed
    assert verdict.least_dice == pytest.approx(0.96)
    assert verdict.failures[0] == "chest: segment 1 has Dice 0.9600, below 0.99"


def test_a_volume_off_by_more_than_a_percent_is_refused_even_where_dice_is_high() -> None:
    verdict = judge("case", [block(4000, 1000)], [block(4000, 1012)], Gate(mean_dice=0.99))
    assert verdict.least_dice > 0.99
    assert verdict.failures == ("case: the volume of segment 1 changes by 1.20%, more than 1%",)


def test_the_mean_may_fail_where_no_segment_does() -> None:
    verdict = judge("case", [block(4000, 1000)], [np.roll(block(4000, 1000), 8)], Gate())
    assert verdict.failures == ("case: mean Dice 0.9920 is below 0.995",)


@pytest.mark.parametrize(("voxels", "passes"), [(51, True), (52, True), (53, False)])
def test_a_tiny_segment_is_judged_by_voxels_and_left_out_of_the_mean(voxels: int, passes: bool) -> None:
    verdict = judge("case", [block(1000, 50)], [block(1000, voxels)], Gate())
    assert verdict.passed is passes
    assert (verdict.segments, verdict.tiny, verdict.mean_dice) == (0, 1, 1.0)


def test_a_segment_that_is_not_in_the_reference_is_judged_by_voxels() -> None:
    assert not judge("case", [block(1000, 0)], [block(1000, 3)], Gate()).passed
    assert judge("case", [block(1000, 0)], [block(1000, 2)], Gate()).passed


def test_pieces_of_a_case_are_judged_as_one_image_and_cases_apart() -> None:
    one, other = block(1000, 500), np.roll(block(1000, 500), 10)
    together = judge("case", [one, one], [one, other], Gate(mean_dice=0.99))
    assert together.least_dice == pytest.approx(0.99)
    assert together.passed
    apart = worst([judge("a", [one], [one], Gate()), judge("b", [one], [other], Gate())])
    assert (apart.passed, apart.segments) == (False, 2)
    assert apart.least_dice == pytest.approx(0.98)

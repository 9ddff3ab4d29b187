"""Operators on class values, and the crop of a resampled volume: geometry, and what lies beyond."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import PipelineError
from models.operators.argmax import Argmax
from models.operators.crop import CropTo
from models.operators.one_hot import OneHot
from models.operators.resample import Resample
from models.operators.resample_cropped import ResampleCropped
from models.operators.restore_probability import RestoreProbability
from models.operators.softmax import Softmax
from models.operators.upsample import Upsample
from models.values import Kind, LabelMap, ProbabilityMap, ValueType, Volume
from tests.imaging_cases import applied, grid, mask, volume

LOGITS = np.random.default_rng(0).normal(0, 3, (3, 2, 4, 5)).astype(np.float32)


def test_softmax_gives_shares_that_sum_to_one_and_keeps_the_order() -> None:
    given_map = ProbabilityMap(LOGITS, grid(), ("a", "b"), ("n",))
    result = applied(Softmax(), given_map)
    np.testing.assert_allclose(result.values.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(result.values, np.exp(LOGITS) / np.exp(LOGITS).sum(axis=0), atol=1e-6)
    assert result.values.dtype == np.float32
    assert result.notes == ("n",)
    np.testing.assert_array_equal(applied(Argmax(), result).labels, LOGITS.argmax(axis=0))


def test_one_class_becomes_a_probability_however_small_its_logit() -> None:
    logits = np.array([-1000, 0, 1000], np.float32).reshape(1, 1, 1, 3)
    result = applied(Softmax(), ProbabilityMap(logits, grid(), ("a",)))
    np.testing.assert_array_equal(result.values.ravel(), [0, 0.5, 1])


def test_labels_come_back_from_ones_and_zeros() -> None:
    labels = mask(np.random.default_rng(0).integers(0, 3, (2, 4, 5)), None, "a", "b")
    result = applied(OneHot(), labels)
    assert result.values.shape == (3, 2, 4, 5)
    np.testing.assert_array_equal(result.values.sum(axis=0), 1)
    np.testing.assert_array_equal(applied(Argmax(), result).labels, labels.labels)
    assert result.segments == ("a", "b")


def test_a_border_drawn_from_ones_and_zeros_is_smooth_where_the_nearest_voxel_gives_steps() -> None:
    """A ball on a coarse grid, brought to one four times as fine: fewer corners stick out."""
    coarse, fine = grid((4.0, 4.0, 4.0)), grid((1.0, 1.0, 1.0))
    fine[:3, 3] -= 1.5  # centres of the first of four voxels
    places = np.indices((10, 10, 10)) - 4.5
    ball = mask((places**2).sum(axis=0) < 12, coarse, "ball")
    target = volume(np.zeros((40, 40, 40)), fine)
    smooth = applied(RestoreProbability(), applied(OneHot(), ball), target).labels
    steps = ball.labels.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    truth = ((np.indices((40, 40, 40)) / 4 - 4.875) ** 2).sum(axis=0) < 12

    assert np.count_nonzero(smooth != truth) < 0.8 * np.count_nonzero(steps != truth)


def test_upsampled_values_are_background_beyond_their_map() -> None:
    fine = volume(np.zeros((4, 8, 9)), grid((0.5, 0.5, 1.0)))
    part = ProbabilityMap(LOGITS[:, :1, :2, :3], grid(), ("a", "b"))
    values = applied(Upsample(), part, fine).values
    assert values.shape == (3, 4, 8, 9)
    np.testing.assert_array_equal(values[:, -1, -1, -1], [1, 0, 0])
    one_class, tall = ProbabilityMap(LOGITS[:1], grid(), ("a",)), volume(np.zeros((9, 2, 2)))
    assert not applied(Upsample(), one_class, tall).values[0, -1].any()


def test_upsampling_to_the_same_grid_changes_nothing() -> None:
    same = volume(np.zeros((2, 4, 5)))
    values = applied(Upsample(), ProbabilityMap(LOGITS, grid(), ("a", "b")), same).values
    np.testing.assert_allclose(values, LOGITS, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_argmax_of_upsampled_values_is_what_restoring_gives(angle: float) -> None:
    turned = grid((1.0, 1.0, 1.0))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned[:3, :3] = turn @ turned[:3, :3]
    given_map = ProbabilityMap(LOGITS, turned, ("a", "b"), ("n",))
    fine = volume(np.zeros((6, 11, 12)), grid((0.4, 0.45, 0.5)))
    apart, together = (
        applied(Argmax(), applied(Upsample(), given_map, fine)),
        applied(RestoreProbability(), given_map, fine),
    )
    assert apart.labels.any()
    np.testing.assert_array_equal(apart.labels, together.labels)
    np.testing.assert_array_equal(apart.affine, together.affine)
    assert (apart.segments, apart.notes, apart.source) == (together.segments, together.notes, together.source)


def test_a_label_map_knows_that_it_lies_on_the_source_images() -> None:
    upsampled = Upsample().infer(
        [ValueType(kind=Kind.PROBABILITY_MAP, segments=("a",)), ValueType(kind=Kind.VOLUME)]
    )
    assert Argmax().infer([upsampled]) == ValueType(kind=Kind.LABEL_MAP, on_source_grid=True, segments=("a",))
    with pytest.raises(PipelineError):
        Upsample().infer([upsampled])


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9)),
    spacing=st.tuples(*[st.sampled_from([0.0, 0.6, 1.0, 2.5])] * 3).filter(any),
    margin=st.sampled_from([0.0, 1.0, 4.0]),
    seed=st.integers(0, 9),
)
def test_the_crop_of_a_resampled_volume_is_bit_for_bit_the_same(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], margin: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scan = volume(rng.normal(0, 300, shape), grid((1.5, 0.8, 1.0)))
    found = mask(rng.random(shape) > 0.9, grid((1.5, 0.8, 1.0)))
    apart = applied(CropTo(margin_mm=margin), applied(Resample(spacing_mm=spacing), scan), found)
    together = applied(ResampleCropped(spacing_mm=spacing, margin_mm=margin), scan, found)
    assert isinstance(together, Volume)
    assert together.voxels.tobytes() == apart.voxels.tobytes()
    assert together.shape == apart.shape
    np.testing.assert_array_equal(together.affine, apart.affine)
    assert isinstance(found, LabelMap)

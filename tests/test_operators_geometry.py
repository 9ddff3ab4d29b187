"""Shrinking, resampling, cropping and refining keep every voxel where it was in the patient."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from models.errors import KernelError, PipelineError
from models.operators.crop import CropTo
from models.operators.intensity import Clip, Normalise
from models.operators.linear import interpolated_grid
from models.operators.morphology import Spacing
from models.operators.refine import Refine
from models.operators.resample import Resample
from models.operators.restore_probability import RestoreProbability
from models.operators.shrink import Shrink
from models.values import HU, ONE, Affine, Kind, ProbabilityMap, SourcePlanes, ValueType, Volume
from tests.imaging_cases import applied, grid, mask, volume


def place_volume(shape: tuple[int, int, int], affine: Affine) -> Volume:
    """Every voxel holds a linear function of its place in the patient: linear kernels must keep it."""
    index = np.stack([*np.meshgrid(*map(np.arange, shape), indexing="ij"), np.ones(shape)])
    places = np.tensordot(affine, index, axes=1)
    return volume(places[0] + 10 * places[1] + 100 * places[2], affine)


def assert_in_place(result: Volume, *, cut: int = 0) -> None:
    expected = place_volume(result.shape, result.affine).voxels
    inner = tuple(slice(cut, size - cut) for size in result.shape)
    np.testing.assert_allclose(result.voxels[inner], expected[inner], rtol=1e-5, atol=2e-3)


SHAPES = st.tuples(*[st.integers(2, 9)] * 3)


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, spacing=st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 3.0])] * 3))
def test_shrinking_keeps_means_in_place(shape: tuple[int, int, int], spacing: Spacing) -> None:
    given_volume = place_volume(shape, grid(spacing))
    shrunk = applied(Shrink(spacing_mm=(2.0, 2.0, 2.0)), given_volume)
    assert all(s <= max(2.0, before) + 1e-9 for s, before in zip(shrunk.spacing_mm, spacing, strict=True))
    whole = tuple(
        size // max(int(2.0 / s + 1e-6), 1) for size, s in zip(shape, spacing, strict=True)
    )  # the last block may be filled up
    expected = place_volume(shrunk.shape, shrunk.affine).voxels
    part = tuple(slice(0, size) for size in whole)
    np.testing.assert_allclose(shrunk.voxels[part], expected[part], rtol=1e-5, atol=2e-3)


def test_a_block_that_lacks_voxels_is_filled_up_with_the_last() -> None:
    shrunk = applied(Shrink(spacing_mm=(1.0, 1.0, 2.0)), volume([[[2.0, 4.0, 7.0]]]))
    assert shrunk.voxels.tolist() == [[[3.0, 7.0]]]


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, target=st.sampled_from([0.4, 1.0, 1.7]))
def test_resampling_keeps_voxels_in_place(shape: tuple[int, int, int], target: float) -> None:
    given_volume = place_volume(shape, grid((1.0, 0.8, 0.8)))
    resampled = applied(Resample(spacing_mm=(0.0, target, target)), given_volume)
    assert resampled.shape[0] == shape[0]
    corner = resampled.affine @ [0, -0.5, -0.5, 1]
    np.testing.assert_allclose(corner, given_volume.affine @ [0, -0.5, -0.5, 1])  # the same box of space
    assert_in_place(resampled, cut=2)


def test_resampling_to_a_matrix_gives_that_matrix() -> None:
    resampled = applied(Resample(in_plane=(6, 3)), place_volume((2, 12, 12), grid()))
    assert resampled.shape == (2, 6, 3)
    assert resampled.spacing_mm == pytest.approx((1.0, 2.0, 4.0))
    assert_in_place(resampled)


def test_resampling_may_leave_coarser_axes_alone() -> None:
    kept = applied(
        Resample(spacing_mm=(2.0, 2.0, 2.0), finer="no"), place_volume((4, 8, 8), grid((5.0, 1.0, 1.0)))
    )
    assert kept.shape == (4, 4, 4)


def test_interpolation_equals_scipys() -> None:
    array = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    positions = (np.linspace(0, 4, 9), np.array([0.2, 3.9, 5.0]), np.linspace(-1.0, 7.0, 11))
    expected = map_coordinates(array, np.meshgrid(*positions, indexing="ij"), order=1, mode="nearest")
    np.testing.assert_allclose(interpolated_grid(array, positions), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "key"),
    [({}, ""), ({"in_plane": [0, 4]}, "in_plane"), ({"spacing_mm": [1, 2]}, "spacing_mm")],
)
def test_a_senseless_resampling_names_its_key(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(PipelineError) as refused:
        Resample.from_parameters(parameters)
    assert refused.value.key == key


def test_cropping_keeps_voxels_in_place_and_holds_the_mask_with_its_margin() -> None:
    given_volume = place_volume((6, 8, 8), grid((2.0, 1.0, 1.0)))
    labels = np.zeros((6, 8, 8))
    labels[2:4, 3, 4:6] = 1
    cropped = applied(CropTo(margin_mm=1.0), given_volume, mask(labels, given_volume.affine))
    assert cropped.shape == (4, 3, 4)  # a margin of half a slice is a whole one
    assert_in_place(cropped)
    whole = applied(CropTo(), given_volume, mask(np.zeros((6, 8, 8)), given_volume.affine))
    assert whole.shape == given_volume.shape


def test_cropping_understands_a_coarser_mask() -> None:
    fine = place_volume((1, 8, 8), grid())
    coarse = applied(Shrink(spacing_mm=(1.0, 2.0, 2.0)), fine)
    labels = np.zeros(coarse.shape)
    labels[0, 1, 2] = 1
    cropped = applied(CropTo(), fine, mask(labels, coarse.affine))
    np.testing.assert_array_equal(cropped.voxels, fine.voxels[:, 2:4, 4:6])


def test_refining_draws_the_border_by_the_fine_voxels() -> None:
    fine = np.full((1, 12, 12), -1000.0)
    fine[0, 3:9, 3:9] = 50.0
    fine[0, 5, 5] = -1000.0  # deep inside: belongs to it whatever its density
    ct = volume(fine)
    coarse = applied(Shrink(spacing_mm=(1.0, 2.0, 2.0)), ct)
    rough = mask(coarse.voxels > -800, coarse.affine, "Body")
    refined = applied(Refine(band_mm=2.0, min_hu=-300), rough, ct)
    expected = fine > -300
    expected[0, 5, 5] = True
    np.testing.assert_array_equal(refined.labels, expected)
    assert refined.segments == ("Body",)


def test_refining_never_gives_a_segment_what_another_has() -> None:
    rough = mask([[[1, 1, 1, 2, 2, 2, 0, 0]]], None, "one", "two")
    refined = applied(Refine(band_mm=1.0, max_hu=0), rough, volume(np.zeros((1, 1, 8))))
    assert refined.labels.tolist() == [[[1, 1, 1, 2, 2, 2, 2, 0]]]


def test_refining_wants_parallel_axes() -> None:
    turned = grid()[:, [0, 2, 1, 3]]
    with pytest.raises(KernelError, match="do not run alike"):
        applied(Refine(band_mm=1.0, min_hu=0), mask(np.ones((1, 2, 2))), volume(np.zeros((1, 2, 2)), turned))


def source_planes(stacked: Volume) -> SourcePlanes:
    step, column, row = stacked.affine[:3, :3].T
    spacing = stacked.spacing_mm
    return SourcePlanes(
        image_index=tuple(range(stacked.shape[0])),
        positions_mm=stacked.affine[:3, 3] + np.arange(stacked.shape[0])[:, None] * step,
        image_orientation_patient=(*(row / spacing[2]), *(column / spacing[1])),
        pixel_spacing=(spacing[1], spacing[2]),
        rows=stacked.shape[1],
        columns=stacked.shape[2],
    )


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("with_source", [True, False])
def test_probabilities_come_back_to_the_source_wherever_their_axes_run(
    axes: tuple[int, ...], with_source: bool
) -> None:
    low = place_volume((4, 5, 6), grid((3.0, 2.0, 2.0)))
    probability = 1 / (1 + np.exp(-(low.voxels - low.voxels.mean()) / 50))
    affine = low.affine[:, [*axes, 3]].copy()
    values = np.flip(probability.transpose(axes), 0)
    affine[:3, 3] += affine[:3, 0] * (values.shape[0] - 1)
    affine[:3, 0] *= -1
    stacked = place_volume((8, 10, 12), applied(Resample(spacing_mm=(1.5, 1.0, 1.0)), low).affine)
    if with_source:
        stacked = Volume(stacked.voxels, stacked.affine, HU, source=source_planes(stacked))
    given_map = ProbabilityMap(np.ascontiguousarray(values)[None], affine, ("Organ",))
    restored = applied(RestoreProbability(threshold=0.5), given_map, stacked)
    index = np.stack([*np.meshgrid(*map(np.arange, stacked.shape), indexing="ij"), np.ones(stacked.shape)])
    there = np.tensordot(np.linalg.inv(affine) @ stacked.affine, index, axes=1)[:3]
    expected = map_coordinates(values, there, order=1, mode="nearest") > 0.5
    assert np.mean(restored.labels != expected) < 0.01  # rounding at the threshold
    assert restored.source is stacked.source


def test_probabilities_of_several_classes_become_the_likeliest() -> None:
    values = np.zeros((3, 2, 4, 4), np.float32)
    values[1, :, :2], values[2, :, 2:], values[0] = 0.6, 0.9, 0.5
    stacked = place_volume((2, 8, 4), grid())
    affine = applied(Resample(in_plane=(4, 4)), stacked).affine
    restored = applied(RestoreProbability(), ProbabilityMap(values, affine, ("a", "b")), stacked)
    assert restored.labels[0, [0, 7], 0].tolist() == [1, 2]


def test_outside_the_probability_map_is_background() -> None:
    stacked = place_volume((1, 6, 6), grid())
    part = applied(CropTo(), stacked, mask(np.pad(np.ones((1, 2, 2)), [(0, 0), (2, 2), (2, 2)]), grid()))
    values = np.ones((1, *part.shape), np.float32)
    restored = applied(RestoreProbability(), ProbabilityMap(values, part.affine, ("a",)), stacked)
    assert restored.labels.sum() == 4
    assert restored.labels[0, 2:4, 2:4].all()


def test_an_oblique_probability_map_is_met_at_an_angle() -> None:
    stacked = place_volume((3, 9, 9), grid())
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    middle = stacked.affine @ [1, 4, 4, 1]
    affine = turn @ stacked.affine
    affine[:3, 3] += (middle - affine @ [1, 4, 4, 1])[:3]
    values = np.zeros((1, 3, 9, 9), np.float32)
    values[0, :, 3:6, 3:6] = 1.0
    restored = applied(RestoreProbability(), ProbabilityMap(values, affine, ("a",)), stacked)
    assert restored.labels[1, 4, 4] == 1
    assert restored.labels[1, 0, 0] == 0
    assert 6 <= restored.labels[1].sum() <= 12


def test_units_follow_the_numbers() -> None:
    ct = volume([[[-2000.0, 0.0, 2000.0]]])
    clipped = applied(Clip(min_hu=-1000, max_hu=600), ct)
    assert clipped.voxels.tolist() == [[[-1000.0, 0.0, 600.0]]]
    scaled = applied(Normalise(offset=-1000, scale=1 / 1600), clipped)
    np.testing.assert_allclose(scaled.voxels, [[[0.0, 0.625, 1.0]]], rtol=1e-6)
    assert (clipped.unit, scaled.unit) == (HU, ONE)
    with pytest.raises(PipelineError, match="needs a volume in HU"):
        Clip(min_hu=0, max_hu=1).infer([ValueType(kind=Kind.VOLUME, unit=ONE)])

"""Morphology, components, holes, thresholds and set operations, against their definitions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from models.errors import KernelError, PipelineError
from models.operators.combine import Combine
from models.operators.components import Components
from models.operators.holes import FillHoles, enclosed
from models.operators.masks import Mask
from models.operators.morphology import Close, Dilate, Erode, Open, Spacing, closed, dilated, eroded, opened
from models.operators.threshold import Hysteresis, Threshold
from models.values import HU, Kind, LabelMap, ValueType
from tests.imaging_cases import applied, grid, mask, volume

MASKS = arrays(np.bool_, st.tuples(*[st.integers(1, 7)] * 3))
SPACINGS = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3)
RADII = st.sampled_from([0.5, 1.0, 2.0, 3.1])
QUICK = settings(max_examples=60, deadline=None)


@QUICK
@given(given_mask=MASKS, spacing=SPACINGS, radius=RADII)
def test_dilation_takes_every_voxel_within_the_radius(
    given_mask: Mask, spacing: Spacing, radius: float
) -> None:
    expected = np.zeros_like(given_mask)
    places = np.argwhere(np.ones_like(given_mask)) * spacing
    for place in np.argwhere(given_mask) * spacing:
        near = np.linalg.norm(places - place, axis=1) <= radius + 1e-9
        expected |= near.reshape(given_mask.shape)
    np.testing.assert_array_equal(dilated(given_mask, radius, spacing), expected)


@QUICK
@given(given_mask=MASKS, spacing=SPACINGS, radius=RADII, dimensions=st.sampled_from([2, 3]))
def test_erosion_is_dilation_of_the_background(
    given_mask: Mask, spacing: Spacing, radius: float, dimensions: int
) -> None:
    expected = ~dilated(~given_mask, radius, spacing, dimensions)
    np.testing.assert_array_equal(eroded(given_mask, radius, spacing, dimensions), expected)


@QUICK
@given(given_mask=MASKS, spacing=SPACINGS, radius=RADII, dimensions=st.sampled_from([2, 3]))
def test_opening_only_removes_closing_only_adds_and_both_are_idempotent(
    given_mask: Mask, spacing: Spacing, radius: float, dimensions: int
) -> None:
    once = opened(given_mask, radius, spacing, dimensions)
    assert not (once & ~given_mask).any()
    np.testing.assert_array_equal(opened(once, radius, spacing, dimensions), once)
    once = closed(given_mask, radius, spacing, dimensions)
    assert not (given_mask & ~once).any()
    np.testing.assert_array_equal(closed(once, radius, spacing, dimensions), once)


def test_two_dimensional_morphology_never_looks_at_the_next_slice() -> None:
    labels = np.zeros((3, 5, 5))
    labels[1, 2, 2] = 1
    assert not applied(Dilate(radius_mm=1.0, dimensions=2), mask(labels)).labels[[0, 2]].any()
    assert applied(Dilate(radius_mm=1.0), mask(labels)).labels[0, 2, 2] == 1


def test_growing_segments_take_background_only() -> None:
    given_map = mask([[[1, 0, 2, 2, 0]]], None, "one", "two")
    grown = applied(Dilate(radius_mm=1.0), given_map)
    assert grown.labels.tolist() == [[[1, 1, 2, 2, 2]]]
    assert grown.segments == ("one", "two")


def test_an_empty_mask_stays_empty() -> None:
    nothing = mask(np.zeros((2, 3, 4)))
    for operator in (Dilate(radius_mm=2.0), Erode(radius_mm=2.0), Open(radius_mm=2.0), Close(radius_mm=2.0)):
        assert not applied(operator, nothing).labels.any()
    for kept in (Components(largest=1), FillHoles()):
        assert not applied(kept, nothing).labels.any()


def test_a_radius_of_nothing_is_refused() -> None:
    with pytest.raises(PipelineError) as refused:
        Open.from_parameters({"radius_mm": 0})
    assert refused.value.key == "radius_mm"


@QUICK
@given(given_mask=MASKS)
def test_filling_holes_is_what_scipy_calls_it(given_mask: Mask) -> None:
    expected = ndimage.binary_fill_holes(given_mask)
    np.testing.assert_array_equal(given_mask | enclosed(given_mask, 3), expected)
    by_slice = np.stack([ndimage.binary_fill_holes(plane) for plane in given_mask])
    np.testing.assert_array_equal(given_mask | enclosed(given_mask, 2), by_slice)


def ring(size: int = 9) -> NDArray[np.uint8]:
    plane = np.zeros((1, size, size), np.uint8)
    plane[:, 1:-1, 1:-1] = 1
    plane[:, 3:-3, 3:-3] = 0
    return plane


def test_holes_larger_than_asked_for_stay_open() -> None:
    hole = FillHoles(dimensions=2, max_area_cm2=0.09)  # 9 pixels of 1 mm
    assert applied(hole, mask(ring())).labels[0, 4, 4] == 1
    assert applied(replace(hole, max_area_cm2=0.08), mask(ring())).labels[0, 4, 4] == 0


def test_a_wall_cut_off_by_the_field_of_view_still_encloses() -> None:
    cut = ring()[:, :, 4:]  # the hole reaches the border for 3 pixels
    cut[0, 1:-1, 0] = [1, 1, 0, 0, 0, 1, 1]
    assert applied(FillHoles(dimensions=2), mask(cut)).labels[0, 4, 0] == 0
    assert applied(FillHoles(dimensions=2, border_gap_mm=3.0), mask(cut)).labels[0, 4, 0] == 1
    assert applied(FillHoles(dimensions=2, border_gap_mm=2.0), mask(cut)).labels[0, 4, 0] == 0
    assert applied(FillHoles(dimensions=2, border_gap_mm=3.0), mask(cut)).labels[0, 0, 4] == 0


def test_settings_for_slices_are_refused_in_three_dimensions() -> None:
    with pytest.raises(PipelineError) as refused:
        FillHoles.from_parameters({"border_gap_mm": 10})
    assert refused.value.key == "border_gap_mm"


THREE = [[[1, 1, 1, 0, 1, 1, 0, 1, 0, 0]]]


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({"largest": 1}, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        ({"largest": 2}, [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]),
        ({"min_volume_ml": 0.002}, [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]),
        ({}, [1, 1, 1, 0, 1, 1, 0, 1, 0, 0]),
    ],
)
def test_components_are_kept_by_size(settings_: dict[str, Any], expected: list[int]) -> None:
    assert applied(Components(**settings_), mask(THREE)).labels[0, 0].tolist() == expected


def test_components_are_kept_by_what_they_meet() -> None:
    other = mask([[[0, 1, 0, 0, 1, 1, 0, 0, 1, 1]]])
    touching = applied(Components(), mask(THREE), other)
    assert touching.labels[0, 0].tolist() == [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    mostly = applied(Components(min_overlap=0.5), mask(THREE), other)
    assert mostly.labels[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]


def test_components_of_slices_are_judged_by_area() -> None:
    labels = np.zeros((2, 3, 3))
    labels[0, :, 0] = labels[1, 0, 0] = 1
    kept = applied(Components(dimensions=2, min_area_cm2=0.03), mask(labels))
    assert kept.labels[0].sum() == 3
    assert not kept.labels[1].any()


def test_two_masks_must_lie_on_one_grid() -> None:
    with pytest.raises(KernelError, match="different grids"):
        applied(Components(), mask(THREE), mask(np.zeros((1, 1, 3))))
    moved = grid()
    moved[0, 3] += 1.0
    with pytest.raises(KernelError, match="different places"):
        applied(Combine(how="or"), mask(THREE), mask(THREE, moved))


def test_thresholds_include_their_limits_and_stay_within_the_mask() -> None:
    ct = volume([[[-1000.0, -500.0, 0.0, 100.0]]])
    assert applied(Threshold(min_hu=-500, max_hu=0), ct).labels.tolist() == [[[0, 1, 1, 0]]]
    within = mask([[[1, 1, 0, 0]]])
    assert applied(Threshold(min_hu=-500, segment="Tissue"), ct, within).labels.tolist() == [[[0, 1, 0, 0]]]
    assert applied(Threshold(max_hu=-500, segment="Air"), ct).segments == ("Air",)


def test_a_threshold_wants_hounsfield_units() -> None:
    with pytest.raises(PipelineError, match="needs a volume in HU") as refused:
        Threshold(min_hu=0).infer([ValueType(kind=Kind.VOLUME, unit="1")])
    assert refused.value.key == "of"
    with pytest.raises(PipelineError, match="must be a volume"):
        Threshold(min_hu=0).infer([ValueType(kind=Kind.LABEL_MAP)])
    typed = Threshold(min_hu=0, segment="Bone").infer(
        [ValueType(kind=Kind.VOLUME, unit=HU, on_source_grid=True)]
    )
    assert typed == ValueType(kind=Kind.LABEL_MAP, on_source_grid=True, segments=("Bone",))


@pytest.mark.parametrize(
    ("parameters", "key"), [({}, ""), ({"min_hu": 5, "max_hu": 5}, "min_hu"), ({"min": 5}, "min")]
)
def test_a_senseless_threshold_names_its_key(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(PipelineError) as refused:
        Threshold.from_parameters(parameters)
    assert refused.value.key == key


def test_hysteresis_keeps_what_hangs_on_to_a_core() -> None:
    ct = volume([[[200, 500, 200, 0, 200, 200, 0, 500, 500]]])
    assert applied(Hysteresis(low_hu=150, high_hu=400), ct).labels[0, 0].tolist() == [
        1,
        1,
        1,
        0,
        0,
        0,
        0,
        1,
        1,
    ]
    cored = Hysteresis(low_hu=150, high_hu=400, min_core_ml=0.002)
    assert applied(cored, ct).labels[0, 0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("or", [1, 1, 1, 0]), ("and", [0, 1, 0, 0]), ("minus", [1, 0, 0, 0]), ("stack", [1, 1, 2, 0])],
)
def test_masks_combine(how: Any, expected: list[int]) -> None:
    one, two = mask([[[1, 1, 0, 0]]], None, "one"), mask([[[0, 1, 1, 0]]], None, "two")
    both = applied(Combine(how=how), one, two)
    assert both.labels[0, 0].tolist() == expected
    types = [ValueType(kind=Kind.LABEL_MAP, segments=given_map.segments) for given_map in (one, two)]
    assert both.segments == Combine(how=how).infer(types).segments


def test_stacked_segments_have_different_names() -> None:
    same = ValueType(kind=Kind.LABEL_MAP, segments=("one",))
    with pytest.raises(PipelineError, match="same name"):
        Combine(how="stack").infer([same, same])


def test_kernels_leave_their_inputs_alone() -> None:
    labels = np.ones((2, 4, 4), np.uint8)
    labels.flags.writeable = False
    given_map = LabelMap(labels=labels, affine=grid(), segments=("mask",))
    voxels = np.zeros((2, 4, 4), np.float32)
    voxels.flags.writeable = False
    for operator in (Open(radius_mm=1.0), Close(radius_mm=1.0), FillHoles(), Components()):
        applied(operator, given_map)
    for how in ("or", "and", "minus"):
        applied(Combine(how=how), given_map, given_map)
    applied(Threshold(min_hu=0), volume(voxels), given_map)

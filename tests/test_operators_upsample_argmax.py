"""Labels of a fine grid without full-resolution class values are those of interpolating everything first."""

import tracemalloc
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators import upsample_argmax
from models.operators.argmax import likeliest
from models.operators.linear import interpolated
from models.operators.restore_probability import RestoreProbability, labels_on_planes
from models.operators.upsample_argmax import ArgmaxUpsampler
from models.values import Affine, LabelMap, ProbabilityMap
from tests.imaging_cases import applied, grid, volume

Array = NDArray[np.float32]
Shape = tuple[int, int, int]


def everything(
    values: Array, planes: list[Affine], shape: tuple[int, int], threshold: float
) -> NDArray[np.uint8]:
    """Every class interpolated on every pixel, then the likeliest: across the planes, rows, columns."""
    labels = np.zeros((len(planes), *shape), np.uint8)
    for number, to_map in enumerate(planes):
        linear, start = to_map[:3, :2], to_map[:3, 2]
        row_axis, column_axis = (int(axis) for axis in np.abs(linear).argmax(axis=0))
        across = 3 - row_axis - column_axis
        positions = [start[across : across + 1], *(np.arange(n, dtype=float) for n in shape)]
        positions[1] = start[row_axis] + linear[row_axis, 0] * positions[1]
        positions[2] = start[column_axis] + linear[column_axis, 1] * positions[2]
        axes = (across, row_axis, column_axis)
        inside = [
            (at > -0.5 - 1e-6) & (at < values.shape[1 + axis] - 0.5 + 1e-6)
            for at, axis in zip(positions, axes, strict=True)
        ]
        if not all(part.any() for part in inside):
            continue
        plane = values.transpose(0, 1 + across, 1 + row_axis, 1 + column_axis)
        for axis, (at, part) in enumerate(zip(positions, inside, strict=True)):
            plane = interpolated(plane, 1 + axis, at[part])
        labels[number][np.ix_(inside[1], inside[2])] = likeliest(plane[:, 0], threshold)
    return labels


def smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A few blobs a class, as organs are."""
    places = np.indices(shape[1:]).reshape(3, -1).T
    centres = rng.uniform(0, 1, (shape[0], 3)) * shape[1:]
    distance = np.linalg.norm(places[None] - centres[:, None], axis=2).reshape(shape)
    return np.asarray(3 - distance + rng.normal(0, 0.05, shape), np.float32)


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "smooth": smooth,
    "noise": lambda rng, shape: rng.standard_normal(shape, dtype=np.float32),
    "ties": lambda rng, shape: rng.integers(0, 2, shape).astype(np.float32),
    "constant": lambda rng, shape: np.full(shape, 0.25, np.float32),
    "nearly equal": lambda rng, shape: (1e6 + rng.integers(0, 3, shape) / 16).astype(np.float32),
    "of all magnitudes": lambda rng, shape: np.exp(rng.normal(0, 20, shape)).astype(np.float32),
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, list[Affine], tuple[int, int]]:
    """Class values, and planes along any two axes of their grid, turned, shifted, sheared, rescaled."""
    shape: Shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    classes = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    layout = draw(st.permutations(range(3)))
    stored = KINDS[draw(st.sampled_from(sorted(KINDS)))](rng, (classes, *(shape[axis] for axis in layout)))
    values = stored.transpose(0, *(1 + np.argsort(layout)))
    axes = draw(st.permutations(range(3)))
    scales = [draw(st.sampled_from([1.0, -1.0, 0.37, -0.6, 2.3, 0.5])) for _ in range(3)]
    shift = draw(st.sampled_from([0.0, 0.0, 0.25, -0.75, 1.0, 40.0]))
    shear = draw(st.sampled_from([0.0, 0.0, 0.3]))
    size = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    planes = []
    for number in range(draw(st.integers(1, 5))):
        plane = np.zeros((4, 3))
        plane[3, 2] = 1
        plane[axes[0], 2] = (shape[axes[0]] - 1 if scales[0] < 0 else 0) + scales[0] * number + shift
        for column, axis in enumerate(axes[1:]):
            plane[axis, column] = scales[1 + column]
            plane[axis, 2] = shape[axis] - 1 if scales[1 + column] < 0 else 0
        plane[axes[1], 2] += shear * number
        planes.append(plane)
    return values, planes, size


@settings(max_examples=300, deadline=None)
@given(case=cases(), threshold=st.sampled_from([0.5, 0.25, -1.0]), block=st.sampled_from([1, 3, 32]))
def test_labels_are_bit_for_bit_those_of_interpolating_everything(
    case: tuple[Array, list[Affine], tuple[int, int]], threshold: float, block: int
) -> None:
    values, planes, shape = case
    with mock.patch.multiple(upsample_argmax, BLOCK=block, COPIED_BYTES=1):
        labels = labels_on_planes(values, planes, shape, threshold)
    np.testing.assert_array_equal(labels, everything(values, planes, shape, threshold))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_values_that_are_no_numbers_change_nothing(odd: float) -> None:
    rng = np.random.default_rng(3)
    values = smooth(rng, (6, 5, 9, 9))
    values[rng.integers(0, 6, 12), rng.integers(0, 5, 12), rng.integers(0, 9, 12), rng.integers(0, 9, 12)] = (
        odd
    )
    planes = [np.array([[0, 0, z * 0.6], [0.4, 0, 0], [0, 0.7, 0.1], [0, 0, 1.0]]) for z in range(6)]
    with mock.patch.object(upsample_argmax, "BLOCK", 2):
        labels = labels_on_planes(values, planes, (20, 12), 0.5)
    np.testing.assert_array_equal(labels, everything(values, planes, (20, 12), 0.5))


ALONG_COLUMNS = np.array([[0, 0, 0], [1.0, 0, 0], [0, 0.5, 0], [0, 0, 1]])


def test_a_class_is_left_out_only_where_rounding_cannot_make_it_win() -> None:
    """8a + (a - 8a) * 1 is not always a: it may fall below the next smaller number, another class."""
    won_by_rounding = 0
    for a in np.random.default_rng(0).uniform(1, 2, 300).astype(np.float32):
        below = np.nextafter(a, np.float32(0))
        values = np.array([[8 * a, a], [below, below]], np.float32).reshape(2, 1, 1, 2)
        labels = labels_on_planes(values, [ALONG_COLUMNS], (1, 3), 0.5)
        np.testing.assert_array_equal(labels, everything(values, [ALONG_COLUMNS], (1, 3), 0.5))
        won_by_rounding += int(labels[0, 0, 2])
    assert won_by_rounding


@pytest.mark.filterwarnings("ignore:(invalid value|overflow):RuntimeWarning")
def test_no_class_is_left_out_beside_one_whose_differences_overflow() -> None:
    values = np.array([[1, 1], [3e38, -3e38], [5, 5]], np.float32).reshape(3, 1, 1, 2)
    labels = labels_on_planes(values, [ALONG_COLUMNS], (1, 3), 0.5)
    np.testing.assert_array_equal(labels, everything(values, [ALONG_COLUMNS], (1, 3), 0.5))


def test_a_class_that_wins_at_no_corner_but_in_the_middle_is_found() -> None:
    values = np.zeros((3, 1, 1, 2), np.float32)
    values[:, 0, 0] = [[10, 0], [0, 10], [9, 9]]
    planes = [np.array([[0, 0, 0], [1.0, 0, 0], [0, 0.125, 0], [0, 0, 1]])]
    labels = labels_on_planes(values, planes, (1, 9), 0.5)
    assert labels[0, 0].tolist() == [0, 2, 2, 2, 2, 2, 2, 2, 1]


def test_nearly_all_classes_are_left_out_where_organs_are_smooth() -> None:
    """The point of it: work is done for classes that can win, not for all."""
    values = smooth(np.random.default_rng(0), (40, 4, 96, 96))
    planes = [np.array([[0, 0, z * 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 1.0]]) for z in range(7)]
    interpolated_classes = []
    inner = upsample_argmax._likeliest

    def counted(fine: Array, classes: NDArray[np.intp]) -> NDArray[np.uint8]:
        interpolated_classes.append(len(classes))
        return inner(fine, classes)

    with (
        mock.patch.object(upsample_argmax, "_likeliest", counted),
        mock.patch.object(upsample_argmax, "BLOCK", 8),
    ):
        labels = labels_on_planes(values, planes, (191, 191), 0.5)
    blocks = 7 * 12 * 12
    assert sum(interpolated_classes) < 0.15 * 40 * blocks
    np.testing.assert_array_equal(labels, everything(values, planes, (191, 191), 0.5))


def test_memory_grows_with_the_labels_and_not_with_the_classes() -> None:
    values = smooth(np.random.default_rng(0), (40, 6, 64, 64))
    planes = [np.array([[0, 0, z * 0.25], [0.25, 0, 0], [0, 0.25, 0], [0, 0, 1.0]]) for z in range(21)]
    tracemalloc.start()
    try:
        labels = labels_on_planes(values, planes, (253, 253), 0.5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    full_resolution = 40 * 4 * labels.size
    assert peak < full_resolution / 10


def test_more_classes_than_labels_can_name_are_refused() -> None:
    with pytest.raises(KernelError, match="257 classes"):
        ArgmaxUpsampler(np.zeros((257, 1, 1, 1), np.float32), (0, 1, 2), 0.5)


def test_the_operator_keeps_geometry_and_segments() -> None:
    coarse = grid((2.0, 2.0, 2.0))
    fine = volume(np.zeros((6, 8, 8)), grid((1.0, 1.0, 1.0)))
    values = smooth(np.random.default_rng(1), (3, 3, 4, 4))
    restored = applied(RestoreProbability(), ProbabilityMap(values, coarse, ("a", "b"), ("n",)), fine)
    assert isinstance(restored, LabelMap)
    assert restored.labels.shape == (6, 8, 8)
    assert restored.segments == ("a", "b")
    assert restored.notes == ("n",)
    np.testing.assert_array_equal(restored.affine, fine.affine)

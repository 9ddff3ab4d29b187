"""Restoring gives every source pixel the label of the nearest voxel, whatever the grids."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import KernelError, PipelineError
from models.geometry import grid_affine
from models.operators.reorient import Reorient
from models.operators.restore import RestoreToSource
from models.values import HU, Affine, Images, Kind, LabelMap, SourcePlanes, ValueType, Volume
from tests.dicom_cases import AXIAL, CONTEXT, decoded, decoded_image, real_series, stacked

SHAPE = (4, 7, 9)


def source_volume(
    shape: tuple[int, int, int] = SHAPE, step: tuple[float, float, float] = (0, 0, 2.0)
) -> Volume:
    slices, rows, columns = shape
    positions = np.array([5.0, -3.0, 11.0]) + np.arange(slices)[:, None] * np.array(step)
    source = SourcePlanes(
        image_index=tuple(range(slices)),
        positions_mm=positions,
        image_orientation_patient=AXIAL,
        pixel_spacing=(0.5, 0.75),
        rows=rows,
        columns=columns,
    )
    affine = grid_affine(positions[0], np.array(step), AXIAL, (0.5, 0.75))
    voxels = np.random.default_rng(5).integers(0, 4, shape).astype(np.float32)
    return Volume(voxels=voxels, affine=affine, unit=HU, source=source)


def label_map(labels: NDArray[np.uint8], affine: Affine) -> LabelMap:
    return LabelMap(labels=labels, affine=affine, segments=("a", "b", "c"), notes=("n",))


def restored(labels: LabelMap, volume: Volume) -> NDArray[np.uint8]:
    result = RestoreToSource().apply([labels, volume], CONTEXT)
    assert isinstance(result, LabelMap)
    assert result.source is volume.source
    assert result.segments == labels.segments
    assert result.notes == labels.notes + volume.notes
    assert result.labels.dtype == np.uint8
    return result.labels


def nearest(labels: LabelMap, source: SourcePlanes) -> NDArray[np.uint8]:
    """One pixel at a time, as the definition says."""
    out = np.zeros((len(source.positions_mm), source.rows, source.columns), np.uint8)
    along_row, along_column = np.array(AXIAL[:3]), np.array(AXIAL[3:])
    inverse = np.linalg.inv(labels.affine)
    for plane, row, column in np.ndindex(out.shape):
        position = source.positions_mm[plane] + along_column * 0.5 * row + along_row * 0.75 * column
        index = np.floor((inverse @ [*position, 1])[:3] + 0.5).astype(int)
        if (index >= 0).all() and (index < labels.labels.shape).all():
            out[plane, row, column] = labels.labels[tuple(index)]
    return out


@given(
    orientation=st.permutations(["SI", "PA", "LR"]).flatmap(
        lambda axes: st.tuples(*map(st.sampled_from, axes))
    ),
    low=st.tuples(*[st.integers(0, 1)] * 3),
    high=st.tuples(*[st.integers(0, 1)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_turned_and_cropped_grids_are_restored_exactly(
    orientation: tuple[str, ...], low: tuple[int, ...], high: tuple[int, ...]
) -> None:
    volume = source_volume()
    turned = Reorient(orientation="".join(orientation)).apply([volume], CONTEXT)
    assert isinstance(turned, Volume)
    crop = tuple(slice(a, n - b) for a, b, n in zip(low, high, turned.shape, strict=True))
    affine = turned.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    labels = label_map(turned.voxels[crop].astype(np.uint8), affine)
    result = restored(labels, volume)
    assert volume.source is not None
    np.testing.assert_array_equal(result, nearest(labels, volume.source))
    if not any(low) and not any(high):
        np.testing.assert_array_equal(result, volume.voxels)


def test_a_label_map_on_the_source_grid_is_not_copied() -> None:
    volume = source_volume()
    labels = label_map(volume.voxels.astype(np.uint8), volume.affine)
    assert np.shares_memory(restored(labels, volume), labels.labels)


@pytest.mark.parametrize("scale", [(1.0, 2.0, 2.0), (0.5, 1.3, 0.7), (3.0, 3.0, 3.0)])
def test_coarser_and_finer_grids_give_the_nearest_label(scale: tuple[float, float, float]) -> None:
    volume = source_volume()
    affine = volume.affine.copy()
    affine[:3, :3] *= scale
    affine[:3, 3] += 0.123
    labels = label_map(np.random.default_rng(1).integers(0, 4, (5, 6, 8)).astype(np.uint8), affine)
    assert volume.source is not None
    np.testing.assert_array_equal(restored(labels, volume), nearest(labels, volume.source))


def test_oblique_grids_give_the_nearest_label() -> None:
    volume = source_volume()
    angle = np.radians(20)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = volume.affine.copy()
    affine[:3, :3] = turn @ affine[:3, :3]
    labels = label_map(np.random.default_rng(2).integers(0, 4, SHAPE).astype(np.uint8), affine)
    assert volume.source is not None
    expected = nearest(labels, volume.source)
    assert expected.any()
    np.testing.assert_array_equal(restored(labels, volume), expected)


def test_sheared_planes_are_visited_where_they_are() -> None:
    volume = source_volume(step=(0, 0.6, 2.0))
    affine = grid_affine(np.array([5.0, -3.0, 11.0]), np.array([0, 0, 2.0]), AXIAL, (0.5, 0.75))
    labels = label_map(np.random.default_rng(2).integers(0, 4, (4, 11, 9)).astype(np.uint8), affine)
    assert volume.source is not None
    np.testing.assert_array_equal(restored(labels, volume), nearest(labels, volume.source))


def test_a_grid_elsewhere_gives_nothing() -> None:
    volume = source_volume()
    affine = volume.affine.copy()
    affine[:3, 3] += 1000
    assert not restored(label_map(np.ones(SHAPE, np.uint8), affine), volume).any()


def test_a_ball_in_a_tilted_irregular_series_comes_back_as_a_ball() -> None:
    degrees = np.radians(12)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(degrees)), float(-np.sin(degrees)))
    rows, columns = np.indices((60, 40))
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    centre, images, truth = np.array([15.0, 15.0, 16.0]), [], []
    for index, z in enumerate([0.0, 2, 4, 6, 8, 11, 14, 17, 20, 23, 26, 29, 32, 34]):
        position = np.array([0, 0, z])[:, None, None] + along_column[:, None, None] * rows * 0.5
        position = position + along_row[:, None, None] * columns * 0.75
        ball = np.linalg.norm(position - centre[:, None, None], axis=0) < 9
        truth.append(ball)
        images.append(decoded_image(index, (0.0, 0.0, z), ball.astype(np.float32), orientation=orientation))
    volume = stacked(Images(tuple(images)), gantry_tilt="resample", irregular_spacing="resample")
    labels = (volume.voxels > 0.5).astype(np.uint8)
    result = restored(LabelMap(labels=labels, affine=volume.affine, segments=("ball",)), volume) > 0
    dice = 2 * (result & np.array(truth)).sum() / (result.sum() + np.sum(truth))
    assert dice > 0.95


def test_a_real_series_turned_and_cropped_comes_back_exactly(shared_data: Path, tmp_path: Path) -> None:
    volume = stacked(decoded(real_series(shared_data, "ct-chest-philips.zip", tmp_path)))
    turned = Reorient(orientation="LAI").apply([volume], CONTEXT)
    assert isinstance(turned, Volume)
    affine = turned.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (20, 30, 5)
    labels = (turned.voxels[20:490, 30:480, 5:60] < -400).astype(np.uint8)
    result = restored(LabelMap(labels=labels, affine=affine, segments=("air",)), volume)
    inside = result[4:59, 32:482, 20:490]  # I and A are reversed: 64 - 60, 512 - 480
    np.testing.assert_array_equal(inside, (volume.voxels < -400)[4:59, 32:482, 20:490])
    assert result.sum() == inside.sum()


def test_restoring_needs_what_stack_gave() -> None:
    volume = source_volume()
    labels = label_map(np.zeros(SHAPE, np.uint8), volume.affine)
    with pytest.raises(KernelError, match="no source planes"):
        RestoreToSource().apply(
            [labels, Volume(voxels=volume.voxels, affine=volume.affine, unit=HU)], CONTEXT
        )


def test_the_result_is_on_the_source_grid_with_its_segments() -> None:
    labels, volume = ValueType(kind=Kind.LABEL_MAP, segments=("a",)), ValueType(kind=Kind.VOLUME, unit=HU)
    inferred = RestoreToSource().infer([labels, volume])
    assert inferred == ValueType(kind=Kind.LABEL_MAP, on_source_grid=True, segments=("a",))
    with pytest.raises(PipelineError):
        RestoreToSource().infer([volume, labels])

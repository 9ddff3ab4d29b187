"""Images become a volume in patient space, or the series is refused for a reason with a name."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import InputRefused, PipelineError
from models.operators.stacking import Stack
from models.values import HU, ONE, Images, Kind, ValueType, Volume
from tests.dicom_cases import CONTEXT, decoded, decoded_image, real_series, stacked

HEAD = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)
"""Axial, turned within the plane."""
TILT_15 = (1.0, 0.0, 0.0, 0.0, float(np.cos(np.radians(15))), float(-np.sin(np.radians(15))))


def field(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear in space, so that linear interpolation gives it exactly."""
    x, y, z = position
    return np.asarray(3.0 * x - 2.0 * y + 5.0 * z + 7.0)


def positions_of(volume: Volume) -> NDArray[np.float64]:
    """float64[3, slices, rows, columns]: LPS mm of every voxel."""
    index = np.indices(volume.shape).reshape(3, -1)
    positions = volume.affine @ np.vstack([index, np.ones(index.shape[1])])
    return np.asarray(positions[:3].reshape(3, *volume.shape), np.float64)


def sampled(
    places: list[tuple[float, float, float]],
    orientation: tuple[float, ...],
    shape: tuple[int, int] = (16, 20),
) -> Images:
    """Planes of `field` at these positions, in a shuffled order."""
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    rows, columns = np.indices(shape)
    images = []
    for index, place in enumerate(places):
        position = np.array(place)[:, None, None]
        position = (
            position + along_column[:, None, None] * rows * 0.5 + along_row[:, None, None] * columns * 0.75
        )
        pixels = field(position).astype(np.float32)
        images.append(decoded_image(index, place, pixels, orientation=orientation))
    order = np.random.default_rng(3).permutation(len(images))
    return Images(tuple(images[index] for index in order))


def line(count: int, step_mm: float = 2.0) -> list[tuple[float, float, float]]:
    return [(-10.0, 20.0, step_mm * index) for index in range(count)]


def nifti(path: Path) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Values [i, j, k] of a NIfTI-1 file, and its affine to LPS mm (the file's is to RAS)."""
    content = gzip.decompress(path.read_bytes())
    _, *shape = struct.unpack_from("<4h", content, 40)
    (kind,) = struct.unpack_from("<h", content, 70)
    (offset,) = struct.unpack_from("<f", content, 108)
    dtype = {2: "<u1", 4: "<i2", 512: "<u2"}[kind]
    data = np.frombuffer(content, dtype, int(np.prod(shape)), int(offset)).reshape(shape, order="F")
    affine = np.eye(4)
    affine[:3] = np.array(struct.unpack_from("<12f", content, 280)).reshape(3, 4)
    return data, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def refused(images: Images, **parameters: str) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        stacked(images, **parameters)
    return caught.value


@pytest.mark.parametrize("orientation", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), HEAD])
def test_every_voxel_is_where_the_affine_says(orientation: tuple[float, ...]) -> None:
    volume = stacked(sampled(line(5), orientation))
    assert volume.shape == (5, 16, 20)
    assert volume.spacing_mm == pytest.approx((2.0, 0.5, 0.75))
    np.testing.assert_allclose(volume.voxels, field(positions_of(volume)), atol=1e-4)
    assert volume.unit == HU
    assert volume.voxels.flags.c_contiguous


def test_slices_ascend_along_the_normal_and_remember_their_images() -> None:
    volume = stacked(sampled(line(4), HEAD))
    assert volume.source is not None
    assert volume.source.image_index == (0, 1, 2, 3)
    np.testing.assert_array_equal(volume.source.positions_mm[:, 2], [0, 2, 4, 6])
    assert (volume.source.rows, volume.source.columns) == (16, 20)


def test_parts_are_stacked_together() -> None:
    images = sampled(line(5), HEAD).images
    volume = Stack().apply([Images(images[:2], ("a",)), Images(images[2:], ("a", "b"))], CONTEXT)
    assert isinstance(volume, Volume)
    assert volume.shape[0] == 5
    assert volume.notes == ("a", "b")


def test_one_image_is_too_few() -> None:
    error = refused(Images((decoded_image(0, (0.0, 0.0, 0.0)),)))
    assert error.reason == "too-few-images"
    assert "has 1 image" in str(error)


def test_a_missing_slice_is_refused() -> None:
    places = line(6)
    error = refused(sampled(places[:3] + places[4:], HEAD), irregular_spacing="resample")
    assert error.reason == "missing-slice"
    assert "a gap of 4 mm where others are 2 mm" in str(error)


def test_irregular_spacing_is_refused() -> None:
    error = refused(sampled([(0, 0, 0), (0, 0, 2.0), (0, 0, 4.0), (0, 0, 7.0)], HEAD))
    assert error.reason == "irregular-spacing"
    assert "2 to 3 mm" in str(error)


def test_rounded_positions_are_regular() -> None:
    places = [(0.0, 0.0, round(index * 1.25, 1)) for index in range(20)]
    assert stacked(sampled(places, HEAD)).spacing_mm[0] == pytest.approx(1.25, abs=0.01)


def test_gantry_tilt_is_refused() -> None:
    error = refused(sampled(line(6), TILT_15))
    assert error.reason == "gantry-tilt"
    assert "15.0 degrees" in str(error)


def test_mixed_orientation_is_refused() -> None:
    images = (decoded_image(0, (0, 0, 0)), decoded_image(1, (0, 0, 2), orientation=HEAD))
    assert refused(Images(images)).reason == "orientation-mixed"


def test_mixed_size_is_refused() -> None:
    images = (decoded_image(0, (0, 0, 0)), decoded_image(1, (0, 0, 2), np.zeros((4, 5), np.float32)))
    error = refused(Images(images))
    assert error.reason == "size-mixed"
    assert "4 x 5, 4 x 6" in str(error)


def test_mixed_pixel_spacing_is_refused() -> None:
    images = (decoded_image(0, (0, 0, 0)), decoded_image(1, (0, 0, 2), spacing=(0.5, 0.8)))
    assert refused(Images(images)).reason == "spacing-mixed"


def test_two_different_images_at_one_place_are_refused() -> None:
    images = (decoded_image(0, (0, 0, 0)), decoded_image(1, (0, 0, 2)), decoded_image(2, (0, 0, 2)))
    error = refused(Images(images))
    assert error.reason == "duplicate-position"
    assert "2.000 mm" in str(error)


def test_an_image_sent_twice_is_left_out_with_a_note() -> None:
    same = np.ones((4, 6), np.float32)
    images = (
        decoded_image(0, (0, 0, 0)),
        decoded_image(1, (0, 0, 2), same),
        decoded_image(2, (0, 0, 2), same),
    )
    volume = stacked(Images(images))
    assert volume.source is not None
    assert volume.source.image_index == (0, 1)
    assert volume.notes == ("Images that repeat another one's position and pixels were left out: 1.",)


def test_different_frames_of_reference_are_noted() -> None:
    images = [decoded_image(i, (0, 0, 2.0 * i), frame_of_reference_uid=f"1.2.{i}") for i in range(3)]
    (note,) = stacked(Images(tuple(images))).notes
    assert "3 different values of Frame of Reference UID (0020,0052)" in note


@pytest.mark.parametrize(
    ("places", "orientation", "parameters", "said"),
    [
        (line(12), TILT_15, {"gantry_tilt": "resample"}, "a gantry tilt of 15.0 degrees"),
        (
            [(0.0, 0.0, z) for z in (0, 2, 4, 6, 7.5, 9.5, 13, 15, 17)],
            HEAD,
            {"irregular_spacing": "resample"},
            "distances between slices of 1.5 to 3.5 mm",
        ),
        (
            [(0.0, 0.0, z) for z in (0, 2, 4, 6, 7.5, 9.5, 13, 15, 17)],
            TILT_15,
            {"gantry_tilt": "resample", "irregular_spacing": "resample"},
            "a gantry tilt of 15.0 degrees and distances between slices of",
        ),
    ],
)
def test_resampling_gives_a_right_angled_grid_of_the_same_field(
    places: list[tuple[float, float, float]],
    orientation: tuple[float, ...],
    parameters: dict[str, str],
    said: str,
) -> None:
    images = sampled(places, orientation)
    volume = stacked(images, **parameters)
    axes = volume.affine[:3, :3] / volume.spacing_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    expected = field(positions_of(volume))
    fill = min(image.pixels.min() for image in images.images)
    inside = np.abs(volume.voxels - expected) < 1e-2
    assert (inside | (volume.voxels < expected) | np.isclose(volume.voxels, fill)).all()
    middle = volume.voxels.shape[1] // 2
    assert inside[:, middle, 4:-4].all()
    assert said in volume.notes[-1]
    assert volume.source is not None
    assert len(volume.source.positions_mm) == len(places)


def test_resampling_leaves_a_regular_series_alone() -> None:
    images = sampled(line(5), HEAD)
    plain, careful = stacked(images), stacked(images, gantry_tilt="resample", irregular_spacing="resample")
    np.testing.assert_array_equal(plain.voxels, careful.voxels)
    np.testing.assert_array_equal(plain.affine, careful.affine)
    assert careful.notes == ()


def test_the_type_says_whether_the_grid_is_the_sources() -> None:
    images = ValueType(kind=Kind.IMAGES, unit=HU)
    assert Stack().infer([images, images]) == ValueType(kind=Kind.VOLUME, unit=HU, on_source_grid=True)
    assert not Stack(gantry_tilt="resample").infer([images]).on_source_grid
    for inputs in ([], [ValueType(kind=Kind.SERIES)], [images, ValueType(kind=Kind.IMAGES, unit=ONE)]):
        with pytest.raises(PipelineError):
            Stack().infer(inputs)


@pytest.mark.parametrize(
    ("name", "unit", "reason"),
    [
        ("failing/ct-gantry-tilt", "HU", "gantry-tilt"),
        ("failing/ct-missing-slice", "HU", "missing-slice"),
        ("failing/mr-mixed-orientation", "1", "orientation-mixed"),
        ("ct-head-ge-tilt-irregular.zip", "HU", "gantry-tilt"),
    ],
)
def test_real_series_that_form_no_grid_are_refused(
    name: str, unit: str, reason: str, shared_data: Path, tmp_path: Path
) -> None:
    assert refused(decoded(real_series(shared_data, name, tmp_path), unit)).reason == reason


def test_the_tilted_irregular_head_is_resampled_where_the_pipeline_says_so(
    shared_data: Path, tmp_path: Path
) -> None:
    images = decoded(real_series(shared_data, "ct-head-ge-tilt-irregular.zip", tmp_path))
    assert refused(images, gantry_tilt="resample").reason == "irregular-spacing"
    volume = stacked(images, gantry_tilt="resample", irregular_spacing="resample")
    assert volume.spacing_mm[1:] == pytest.approx((0.488, 0.488), abs=1e-3)
    assert volume.shape[1] > 512
    assert volume.shape[2] == 512
    assert volume.voxels.max() <= max(image.pixels.max() for image in images.images)


@pytest.mark.parametrize(
    ("name", "shape", "spacing_mm"),
    [
        ("ct-chest-philips.zip", (64, 512, 512), (1.0, 0.781, 0.781)),
        ("ct-abdomen-siemens-j2k", (20, 512, 512), (2.0, 0.977, 0.977)),
        ("ct-head-phantom-philips.zip", (28, 512, 512), (5.0, 0.451, 0.451)),
        ("seg-ct-liver/ct", (3, 512, 512), (1.0, 0.811, 0.811)),
    ],
)
def test_real_ct_series_are_stacked(
    name: str,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    shared_data: Path,
    tmp_path: Path,
) -> None:
    volume = stacked(decoded(real_series(shared_data, name, tmp_path)))
    assert volume.shape == shape
    assert volume.spacing_mm == pytest.approx(spacing_mm, abs=1e-3)
    assert -1024 <= volume.voxels.min() <= -900
    assert volume.affine[2, 0] > 0
    assert bool(volume.notes) == (name == "ct-chest-philips.zip")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small/mr-siemens-trio", "mr-siemens-trio"),
        ("small/mr-philips-intera", "mr-philips-intera"),
        ("small/mr-hitachi-echelon", "mr-hitachi-echelon"),
        ("small/mr-jpegls", "mr-compressed"),
    ],
)
def test_real_volumes_equal_those_of_another_converter(
    name: str, expected: str, shared_data: Path, tmp_path: Path
) -> None:
    volume = stacked(decoded(real_series(shared_data, name, tmp_path), "1"))
    data, to_lps = nifti(shared_data / "expected" / "volumes" / f"{expected}.nii.gz")
    positions = np.vstack([positions_of(volume).reshape(3, -1), np.ones(volume.voxels.size)])
    index = np.linalg.inv(to_lps) @ positions
    whole = np.rint(index[:3])
    np.testing.assert_allclose(index[:3], whole, atol=0.02)
    theirs = data[tuple(whole.astype(int))].reshape(volume.shape)
    assert data.size == volume.voxels.size
    np.testing.assert_array_equal(volume.voxels, theirs)

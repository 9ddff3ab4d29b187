"""The phantom: a plausible patient, the truth about them, and a scan that is the same every time."""

import dataclasses
import hashlib

import numpy as np
import pytest

from models.phantom import SEGMENTS, Phantom, PhantomSpec, make_phantom
from models.phantom.imaging import slab_weights
from models.values import voxel_volume_mm3

LEFT, RIGHT, AIRWAYS, BONE, FAT, SOFT = range(1, 7)
SMALL = PhantomSpec(seed=3, slices=40, rows=128, columns=128, spacing_mm=(8.0, 2.8, 2.8))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(SMALL)


def litres(phantom: Phantom, *labels: int) -> float:
    return float(np.isin(phantom.truth.labels, labels).sum() * voxel_volume_mm3(phantom.truth.affine) / 1e6)


def centre_mm(phantom: Phantom, label: int) -> np.ndarray:
    index = np.argwhere(phantom.truth.labels == label).mean(axis=0)
    centre: np.ndarray = phantom.truth.affine[:3, :3] @ index + phantom.truth.affine[:3, 3]
    return centre


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_the_left_lung_is_on_the_side_of_positive_x_and_the_right_lung_opposite(phantom: Phantom) -> None:
    assert centre_mm(phantom, LEFT)[0] > 30
    assert centre_mm(phantom, RIGHT)[0] < -30


def test_the_airways_are_in_the_middle_and_the_spine_is_behind_the_lungs(phantom: Phantom) -> None:
    assert abs(centre_mm(phantom, AIRWAYS)[0]) < 15
    assert centre_mm(phantom, BONE)[1] > centre_mm(phantom, LEFT)[1]


def test_the_lungs_start_below_the_top_slice_and_end_above_the_bottom_one(phantom: Phantom) -> None:
    slices = np.flatnonzero(np.isin(phantom.truth.labels, (LEFT, RIGHT)).any(axis=(1, 2)))
    assert 0 < slices[0] < slices[-1] < SMALL.slices - 1


def test_axes_run_up_back_and_to_the_patients_left(phantom: Phantom) -> None:
    affine = phantom.volume.affine
    np.testing.assert_allclose(affine[:3, :3], [[0, 0, 2.8], [0, 2.8, 0], [8.0, 0, 0]])
    np.testing.assert_allclose(affine @ [19.5, 63.5, 63.5, 1], [0, 8, 0, 1])


@pytest.mark.parametrize("seed", range(4))
def test_every_patient_has_organs_of_human_size(seed: int) -> None:
    patient = make_phantom(dataclasses.replace(SMALL, seed=seed))
    assert 1.3 < litres(patient, LEFT) < 3.5
    assert 1.3 < litres(patient, RIGHT) < 3.5
    assert 0.02 < litres(patient, AIRWAYS) < 0.1
    assert 0.4 < litres(patient, BONE) < 1.6
    assert 10 < litres(patient, *range(1, 7)) < 30


def test_the_heart_takes_its_place_from_the_left_lung(phantom: Phantom) -> None:
    middle = phantom.truth.labels[15]
    assert (middle == LEFT).sum() < 0.9 * (middle == RIGHT).sum()


def test_tissues_have_the_attenuation_they_have_in_patients(phantom: Phantom) -> None:
    expected = {LEFT: (-850, -700), RIGHT: (-850, -700), FAT: (-115, -75), SOFT: (10, 60), BONE: (200, 1000)}
    for label, (low, high) in expected.items():
        assert low < np.median(phantom.volume.voxels[phantom.truth.labels == label]) < high
    corner = phantom.volume.voxels[:, :10, :10]
    assert abs(corner.mean() + 1000) < 5


def test_thresholds_find_what_the_truth_says(phantom: Phantom) -> None:
    voxels, labels = phantom.volume.voxels, phantom.truth.labels
    body = labels > 0
    assert dice((voxels < -400) & body, np.isin(labels, (LEFT, RIGHT, AIRWAYS))) > 0.93
    behind = SMALL.axis_mm(1) > 126
    assert (voxels[:, behind] > -700).any(), "the table should be there"
    assert not labels[:, behind].any(), "the table is no part of the body"


def test_without_a_table_all_around_the_body_is_air() -> None:
    bare = make_phantom(dataclasses.replace(SMALL, slices=4, table=False, noise_hu=0))
    assert (bare.volume.voxels[:, -15:] == -1000).all()


def test_equal_specs_give_equal_bytes(phantom: Phantom) -> None:
    again = make_phantom(SMALL)
    assert phantom.volume.voxels.tobytes() == again.volume.voxels.tobytes()
    assert phantom.truth.labels.tobytes() == again.truth.labels.tobytes()


def test_the_bytes_do_not_drift(phantom: Phantom) -> None:
    """It was the same with AVX2 and AVX-512 switched off in numpy; a change of the anatomy changes it."""
    data = phantom.volume.voxels.astype("<f4").tobytes() + phantom.truth.labels.tobytes()
    expected = "58f9e2b62896963afc2c260dcf542f0969b386cc608f9e1e125ba4752f26cee2"
    assert hashlib.sha256(data).hexdigest() == expected


def test_another_seed_is_another_patient(phantom: Phantom) -> None:
    other = make_phantom(dataclasses.replace(SMALL, seed=4))
    assert not np.array_equal(phantom.truth.labels, other.truth.labels)


@pytest.mark.parametrize(
    "scan",
    [
        {"noise_hu": 60.0},
        {"kernel": "sharp"},
        {"kernel": "smooth"},
        {"slice_thickness_mm": 16.0},
    ],
    ids=str,
)
def test_the_truth_does_not_depend_on_the_scan(phantom: Phantom, scan: dict[str, object]) -> None:
    other = make_phantom(dataclasses.replace(SMALL, **scan))  # type: ignore[arg-type]
    assert np.array_equal(phantom.truth.labels, other.truth.labels)
    assert not np.array_equal(phantom.volume.voxels, other.volume.voxels)


@pytest.mark.parametrize("kernel", ["smooth", "standard", "sharp"])
def test_noise_has_the_strength_that_was_asked_for(kernel: str) -> None:
    spec = dataclasses.replace(SMALL, seed=1, slices=3, spacing_mm=(2.0, 2.8, 2.8), kernel=kernel)  # type: ignore[arg-type]
    noise = make_phantom(dataclasses.replace(spec, noise_hu=40.0)).volume.voxels
    noise = noise - make_phantom(dataclasses.replace(spec, noise_hu=0.0)).volume.voxels
    middle = noise[:, 45:80, 45:80]
    assert 38 < middle.std() < 42
    assert abs(middle.mean()) < 4


def test_kernels_differ_in_how_much_neighbouring_noise_agrees() -> None:
    def agreement(kernel: str) -> float:
        spec = dataclasses.replace(SMALL, slices=2, kernel=kernel, noise_hu=50.0)  # type: ignore[arg-type]
        corner = make_phantom(spec).volume.voxels[:, 40:60, :12] + 1000
        return float((corner[..., 1:] * corner[..., :-1]).mean() / corner.var())

    assert agreement("smooth") > agreement("standard") > agreement("sharp")


def test_emphysema_is_what_lies_below_minus_950() -> None:
    def share(emphysema: float) -> float:
        spec = PhantomSpec(
            seed=2,
            slices=20,
            rows=160,
            columns=160,
            spacing_mm=(2.0, 2.2, 2.2),
            emphysema=emphysema,
            noise_hu=10,
        )
        patient = make_phantom(spec)
        return float((patient.volume.voxels[np.isin(patient.truth.labels, (LEFT, RIGHT))] < -950).mean())

    assert share(0.0) < 0.002
    assert share(0.02) < share(0.2)
    assert share(0.2) > 0.03


def test_segments_are_named_and_the_values_are_whole_numbers(phantom: Phantom) -> None:
    assert phantom.truth.segments == SEGMENTS
    assert phantom.truth.labels.dtype == np.uint8
    assert phantom.volume.voxels.dtype == np.float32
    assert np.array_equal(phantom.volume.voxels, np.rint(phantom.volume.voxels))


@pytest.mark.parametrize(
    ("steps", "weights"), [(1.0, [1]), (3.0, [1, 1, 1]), (2.0, [0.5, 1, 0.5]), (0.4, [1])]
)
def test_a_slab_weighs_the_planes_it_covers(steps: float, weights: list[float]) -> None:
    np.testing.assert_allclose(slab_weights(steps), np.array(weights) / sum(weights), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"slices": 0}, {"noise_hu": -1.0}, {"kernel": "B30f"}, {"spacing_mm": (0.0, 1.0, 1.0)}],
    ids=str,
)
def test_a_spec_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        dataclasses.replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_a_grid_may_be_a_single_slice_far_from_the_chest_or_narrower_than_the_body() -> None:
    for spec in (
        PhantomSpec(seed=1, slices=1, rows=33, columns=47, spacing_mm=(1.0, 5.0, 5.0)),
        PhantomSpec(seed=1, slices=30, rows=20, columns=20, spacing_mm=(30.0, 8.0, 8.0)),
        PhantomSpec(seed=1, slices=2, rows=64, columns=64, spacing_mm=(2.0, 1.0, 1.0)),
    ):
        assert make_phantom(spec).volume.voxels.shape == spec.shape

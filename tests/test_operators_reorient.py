"""Reorienting turns the grid and leaves every value at its place in the patient."""

from itertools import permutations, product

import numpy as np
import pytest

from models.errors import PipelineError
from models.operators.reorient import Reorient
from models.values import HU, Kind, ValueType, Volume
from tests.dicom_cases import CONTEXT

ORIENTATIONS = ["".join(letters) for axes in permutations(("SI", "PA", "LR")) for letters in product(*axes)]
TOWARDS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def volume_in(orientation: str, wobble: float = 0.0) -> Volume:
    affine = np.eye(4)
    spacings = (2.5, 0.5, 0.75)
    for axis, (letter, spacing) in enumerate(zip(orientation, spacings, strict=True)):
        affine[:3, axis] = np.array(TOWARDS[letter]) * spacing
    affine[:3, :3] += wobble
    affine[:3, 3] = (-100.5, 40.25, 7.0)
    return Volume(
        voxels=np.arange(60, dtype=np.float32).reshape(3, 4, 5), affine=affine, unit=HU, notes=("n",)
    )


def reoriented(volume: Volume, orientation: str) -> Volume:
    result = Reorient(orientation=orientation).apply([volume], CONTEXT)
    assert isinstance(result, Volume)
    return result


def by_position(volume: Volume) -> dict[tuple[float, ...], float]:
    index = np.indices(volume.shape).reshape(3, -1)
    positions = volume.affine @ np.vstack([index, np.ones(index.shape[1])])
    keys = map(tuple, np.round(positions[:3].T, 6).tolist())
    return dict(zip(keys, volume.voxels.ravel().tolist(), strict=True))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_value_keeps_its_place(orientation: str) -> None:
    volume = volume_in(orientation, wobble=0.01)
    turned = reoriented(volume, "SPL")
    for axis, letter in enumerate("SPL"):
        assert turned.affine[:3, axis] @ TOWARDS[letter] > 0.9 * turned.spacing_mm[axis]
    assert by_position(turned) == by_position(volume)
    assert turned.voxels.flags.c_contiguous
    assert turned.notes == ("n",)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_there_and_back_is_where_we_were(orientation: str) -> None:
    volume = volume_in("SPL")
    back = reoriented(reoriented(volume, orientation), "SPL")
    np.testing.assert_array_equal(back.voxels, volume.voxels)
    np.testing.assert_array_equal(back.affine, volume.affine)


def test_a_volume_that_lies_right_is_not_copied() -> None:
    volume = volume_in("SPL")
    assert np.shares_memory(reoriented(volume, "SPL").voxels, volume.voxels)


@pytest.mark.parametrize("orientation", ["", "SPLL", "SIL", "spl", "XYZ"])
def test_what_is_no_orientation_is_refused(orientation: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Reorient.from_parameters({"orientation": orientation})
    assert caught.value.key == "orientation"


def test_the_result_is_no_longer_on_the_source_grid() -> None:
    given = ValueType(kind=Kind.VOLUME, unit=HU, on_source_grid=True)
    assert Reorient().infer([given]) == ValueType(kind=Kind.VOLUME, unit=HU)
    with pytest.raises(PipelineError, match="a volume"):
        Reorient().infer([ValueType(kind=Kind.IMAGES)])

"""Values in shared memory: what was written is read back, mapped and read-only; dead servers are swept."""

import os
from pathlib import Path

import numpy as np
import pytest

from models.values import HU, Measurement, Measurements, Segmentation, Value, Volume
from serving.pools.shared_values import memory_folder, read_value, sweep_dead, write_value


def volume() -> Volume:
    voxels = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return Volume(voxels, np.diag([2.0, 1.0, 1.0, 1.0]), HU, notes=("two frames of reference",))


def test_a_volume_comes_back_equal_with_its_geometry_and_notes(tmp_path: Path) -> None:
    shared = write_value(volume(), tmp_path / "1")
    back = read_value(shared)
    assert isinstance(back, Volume)
    np.testing.assert_array_equal(back.voxels, volume().voxels)
    np.testing.assert_array_equal(back.affine, volume().affine)
    assert (back.unit, back.notes) == (HU, volume().notes)
    assert shared.notes == volume().notes


def test_nobody_can_change_a_value_that_others_read(tmp_path: Path) -> None:
    back = read_value(write_value(volume(), tmp_path / "1"))
    assert isinstance(back, Volume)
    with pytest.raises(ValueError, match="read-only"):
        back.voxels[0] = 1


def test_a_mapped_value_outlives_its_file(tmp_path: Path) -> None:
    shared = write_value(volume(), tmp_path / "1")
    back = read_value(shared)
    os.unlink(shared.path)
    assert isinstance(back, Volume)
    assert back.voxels.sum() == volume().voxels.sum()


@pytest.mark.parametrize(
    "value",
    [
        Measurements((Measurement("Left lung", "volume", 1.5, "mL"),)),
        Segmentation(b"\0" * 1001, "1.2", "1.3"),
        Volume(np.zeros((0, 3, 4), np.float32), np.eye(4), HU),
        Volume(np.ones((4, 3, 2), np.float32).T[::-1], np.eye(4), HU),
    ],
    ids=["measurements", "bytes", "empty", "not contiguous"],
)
def test_every_kind_of_value_travels(value: Value, tmp_path: Path) -> None:
    back = read_value(write_value(value, tmp_path / "1"))
    if isinstance(value, Volume):
        assert isinstance(back, Volume)
        np.testing.assert_array_equal(back.voxels, value.voxels)
    else:
        assert back == value


def test_a_value_is_never_written_over_another(tmp_path: Path) -> None:
    write_value(volume(), tmp_path / "1")
    with pytest.raises(FileExistsError):
        write_value(volume(), tmp_path / "1")


def test_folders_of_dead_servers_are_swept_and_of_living_ones_kept() -> None:
    prefix = f"lightbox-test-{os.getpid()}-"
    living, dead = memory_folder(prefix), memory_folder(prefix)
    (living / "pid").write_text(str(os.getpid()))
    (dead / "pid").write_text("999999999")
    sweep_dead(prefix)
    assert living.is_dir()
    assert not dead.exists()
    (living / "pid").unlink()
    living.rmdir()

"""The phantom as DICOM: valid, honest about being made up, and equal in value to the volume."""

import dataclasses
import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from models.phantom import Phantom, PhantomSpec, make_phantom, phantom_series, write_dicom
from tests.conftest import program

SPEC = PhantomSpec(seed=5, slices=4, rows=48, columns=64, spacing_mm=(2.5, 6.0, 5.5))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(SPEC)


def test_what_was_written_decodes_to_the_volume(phantom: Phantom, tmp_path: Path) -> None:
    paths = write_dicom(phantom, tmp_path / "new" / "folder")
    assert len(paths) == SPEC.slices
    for index, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        np.testing.assert_array_equal(hu, phantom.volume.voxels[index])
        position = (phantom.volume.affine @ [index, 0, 0, 1])[:3]
        np.testing.assert_allclose([float(v) for v in ds.ImagePositionPatient], position, atol=1e-5)
        assert ds.InstanceNumber == index + 1
        assert ds.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
        assert ds.PixelSpacing == [6.0, 5.5]
        assert (ds.BitsAllocated, ds.PixelRepresentation) == (16, 1)


def test_the_patient_is_obviously_made_up(phantom: Phantom, tmp_path: Path) -> None:
    ds = pydicom.dcmread(write_dicom(phantom, tmp_path)[0], stop_before_pixels=True)
    assert (ds.PatientName, ds.PatientID) == ("Phantom^Chest", "PHANTOM-5")


def test_uids_follow_from_the_spec_and_the_salt_alone(phantom: Phantom, tmp_path: Path) -> None:
    files = [write_dicom(phantom, tmp_path / name)[0] for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    first = pydicom.dcmread(files[0])
    salted = pydicom.dcmread(write_dicom(phantom, tmp_path / "c", salt="2")[0])
    keywords = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    assert len({str(ds[keyword].value) for ds in (first, salted) for keyword in keywords}) == 8
    assert salted.PixelData == first.PixelData
    assert all(first[keyword].value.is_valid for keyword in keywords)


def test_a_series_refers_to_the_files_in_order_of_uid(tmp_path: Path) -> None:
    series = phantom_series(SPEC, tmp_path)
    assert len(series.images) == SPEC.slices
    for image in series.images:
        data = Path(image.path).read_bytes()
        assert image.digest == f"sha256:{hashlib.sha256(data).hexdigest()}:{len(data)}"
        assert pydicom.dcmread(image.path).SOPInstanceUID == image.sop_instance_uid
    assert [image.sop_instance_uid for image in series.images] == sorted(
        i.sop_instance_uid for i in series.images
    )


def test_writing_slice_by_slice_gives_the_same_files(phantom: Phantom, tmp_path: Path) -> None:
    write_dicom(phantom, tmp_path / "whole")
    phantom_series(SPEC, tmp_path / "streamed")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "streamed" / path.name).read_bytes()


@pytest.mark.parametrize("syntax", [pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRBigEndian])
def test_other_plain_transfer_syntaxes_hold_the_same_pixels(
    phantom: Phantom, tmp_path: Path, syntax: str
) -> None:
    ds = pydicom.dcmread(write_dicom(phantom, tmp_path, transfer_syntax=syntax)[2])
    assert ds.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(ds.pixel_array - 1024.0, phantom.volume.voxels[2])


def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    checker = program("dciodvfy", "dicom3tools")
    spec = dataclasses.replace(SPEC, slices=2, kernel="sharp", slice_thickness_mm=5.0)
    for path in write_dicom(make_phantom(spec), tmp_path):
        report = subprocess.run([checker, str(path)], capture_output=True, text=True, timeout=60, check=False)
        said = report.stdout + report.stderr
        assert report.returncode == 0
        assert "CTImage" in said
        assert "Error" not in said, said


def test_a_folder_that_is_a_file_is_an_error_of_the_system(phantom: Phantom, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken"):
        write_dicom(phantom, tmp_path / "taken")
    shutil.rmtree(tmp_path)

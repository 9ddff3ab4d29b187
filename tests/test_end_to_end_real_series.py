"""Every complete real CT series: sent with dcmtk, segmented, and right where the truth is known."""

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from loadtest.client import LightboxClient
from loadtest.segmentation import dice, read_segmentation
from loadtest.server import LightboxServer
from tests.conftest import absent
from tests.end_to_end import ended_jobs, jobs_by_pipeline, send, study_of


@pytest.fixture(scope="module")
def server(compiled_store: Path) -> Iterator[LightboxServer]:
    with LightboxServer(store=compiled_store) as running:
        yield running


def unzipped(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def with_uids_filled_in(series: Path, folder: Path) -> Path:
    """The abdomen's files with the four identifiers that its data set leaves empty."""
    folder.mkdir(exist_ok=True)
    for number, path in enumerate(sorted(series.iterdir()), start=1):
        dataset = dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.20001", "2.25.20002"
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def computed(server: LightboxServer, folder: Path, options: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The jobs of a series by pipeline; all must have been completed."""
    send(server, folder, options=options)
    jobs = jobs_by_pipeline(ended_jobs(server.client(), study_of(folder), 3))
    assert {job["state"] for job in jobs.values()} == {"COMPLETED"}, jobs
    return jobs


def mask(
    client: LightboxClient, job: dict[str, Any], output: str, segments: list[str], folder: Path
) -> NDArray[np.bool_]:
    """Union of segments, bool[slices by rising z, rows, columns]."""
    headers = [dcmread(path, stop_before_pixels=True) for path in folder.rglob("*") if path.is_file()]
    headers.sort(key=lambda header: float(header.ImagePositionPatient[2]))
    seg = read_segmentation(client.result(job["id"], output))
    images = [str(header.SOPInstanceUID) for header in headers]
    shape = (headers[0].Rows, headers[0].Columns)
    found: NDArray[np.bool_] = np.any([seg.stacked(segment, images, shape) for segment in segments], axis=0)
    return found


def measured(job: dict[str, Any], quantity: str) -> dict[str, float | None]:
    return {
        m["segment"]: m["value"]
        for result in job["results"]
        for m in result["measurements"]
        if m["quantity"] == quantity
    }


def reference(path: Path, *, rows_run_the_other_way: bool) -> NDArray[Any]:
    """A NIfTI label map as [slices, rows, columns] of the DICOM images."""
    if find_spec("nibabel") is None:
        absent("needs the package nibabel")
    import nibabel

    labels = np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)
    return labels[:, ::-1] if rows_run_the_other_way else labels


def test_the_chest_has_the_lungs_of_the_reference_and_says_what_is_odd_about_it(
    server: LightboxServer, shared_data: Path, tmp_path: Path
) -> None:
    folder = unzipped(shared_data / "dicom" / "ct-chest-philips.zip", tmp_path)
    jobs = computed(server, folder)
    lungs = mask(server.client(), jobs["ct-lungs"], "lungs", ["Left lung", "Right lung"], folder)
    expected = shared_data / "expected" / "unet_small_ct_lung" / "ct-chest-philips_lung_mask.nii.gz"
    candidates = [reference(expected, rows_run_the_other_way=flip) > 0 for flip in (False, True)]
    assert max(dice(lungs, candidate) for candidate in candidates) > 0.97
    for job in jobs.values():
        assert any("Frame of Reference UID (0020,0052)" in warning for warning in job["warnings"])
    volumes = measured(jobs["ct-lungs"], "volume")
    assert all(volume is not None and 300 < volume < 3000 for volume in volumes.values())
    # The liver lies under the right lung, which is what makes it the smaller one in this piece of the chest.
    left = mask(server.client(), jobs["ct-lungs"], "lungs", ["Left lung"], folder)
    right = mask(server.client(), jobs["ct-lungs"], "lungs", ["Right lung"], folder)
    assert np.argwhere(left)[:, 2].mean() > np.argwhere(right)[:, 2].mean()
    assert right[:5].sum() < left[:5].sum()


def test_the_abdomen_has_the_bones_of_the_reference(
    server: LightboxServer, shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "dicom" / "ct-abdomen-siemens-j2k"
    folder = with_uids_filled_in(source, tmp_path / "abdomen")
    jobs = computed(server, folder, ["--propose-j2k-lossless"])
    bones = mask(server.client(), jobs["ct-bones"], "bones", ["Bone"], folder)
    expected = shared_data / "expected" / "ct-abdomen-siemens-j2k"
    names = json.loads((expected / "labels.json").read_text())
    labels = reference(expected / "totalsegmentator_labels.nii.gz", rows_run_the_other_way=True)
    bony = [int(key) for key, name in names.items() if name.startswith(("rib_", "vertebra", "humerus"))]
    truth = np.isin(labels, bony)
    recall = (bones & truth).sum() / truth.sum()
    assert recall > 0.85, recall
    assert dice(bones, truth) > 0.7


def test_a_head_phantom_has_no_lungs_and_that_is_a_result(
    server: LightboxServer, shared_data: Path, tmp_path: Path
) -> None:
    folder = unzipped(shared_data / "dicom" / "ct-head-phantom-philips.zip", tmp_path)
    jobs = computed(server, folder)
    assert "Nothing was found" in jobs["ct-lungs"]["message"]
    assert set(measured(jobs["ct-lungs"], "volume").values()) == {0.0}
    seg = dcmread(_saved(server.client().result(jobs["ct-lungs"]["id"], "lungs"), tmp_path))
    assert not seg.pixel_array.any()
    assert int(seg.NumberOfFrames) > 0


def test_three_slices_through_the_lung_bases_are_enough(
    server: LightboxServer, shared_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(shared_data / "dicom" / "seg-ct-liver" / "ct", tmp_path / "ct")
    jobs = computed(server, tmp_path / "ct")
    volumes = measured(jobs["ct-lungs"], "volume")
    assert all(volume is not None and 10 < volume < 50 for volume in volumes.values()), volumes


def _saved(data: bytes, folder: Path) -> Path:
    path = folder / "result.dcm"
    path.write_bytes(data)
    return path

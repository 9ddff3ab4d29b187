"""A real PACS: Orthanc takes the results by C-STORE and serves them back over DICOMweb, geometry intact."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from loadtest.server import LightboxServer
from tests.end_to_end import DEADLINE_S, ended_jobs, jobs_by_pipeline, send, study_of
from tests.orthanc import Orthanc, running_orthanc


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def destination(orthanc: Orthanc) -> str:
    return f"""
[[destinations]]
name = "pacs"
ae_title = "{orthanc.ae_title}"
host = "127.0.0.1"
port = {orthanc.dicom_port}
backoff_s = 0.2
"""


def wait_for_deliveries(
    server: LightboxServer, jobs: list[dict[str, Any]], state: str
) -> list[dict[str, Any]]:
    until = time.monotonic() + DEADLINE_S
    while True:
        found = [delivery for job in jobs for delivery in server.client().job(job["id"])["deliveries"]]
        if found and all(delivery["state"] == state for delivery in found):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.1)


def test_orthanc_takes_the_results_and_serves_them_back_with_the_geometry_of_the_source(
    orthanc: Orthanc, compiled_store: Path, phantom_folder: Path
) -> None:
    study = study_of(phantom_folder)
    with LightboxServer(store=compiled_store, toml=destination(orthanc)) as server:
        send(server, phantom_folder)
        jobs = ended_jobs(server.client(), study, 3)
        assert len(wait_for_deliveries(server, jobs, "DELIVERED")) == 4
        result = jobs_by_pipeline(jobs)["ct-lungs"]["results"][0]
        ours = server.client().result(jobs_by_pipeline(jobs)["ct-lungs"]["id"], "lungs")

    client = DICOMwebClient(orthanc.dicom_web)
    assert len(client.search_for_instances(study_instance_uid=study)) == 4
    retrieved = client.retrieve_instance(study, result["series_instance_uid"], result["sop_instance_uid"])
    seg = highdicom.seg.Segmentation.from_dataset(retrieved)
    sent = highdicom.seg.segread(ours_file := _file(ours, phantom_folder))
    ours_file.unlink()
    np.testing.assert_array_equal(seg.pixel_array, sent.pixel_array)

    headers = {
        str(h.SOPInstanceUID): h
        for h in (dcmread(path, stop_before_pixels=True) for path in phantom_folder.iterdir())
    }
    for groups in seg.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        header = headers[str(source.ReferencedSOPInstanceUID)]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        assert [float(x) for x in position] == pytest.approx([float(x) for x in header.ImagePositionPatient])
    shared = seg.SharedFunctionalGroupsSequence[0]
    any_header = next(iter(headers.values()))
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == list(any_header.PixelSpacing)
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert list(orientation) == list(any_header.ImageOrientationPatient)
    assert (seg.Rows, seg.Columns) == (any_header.Rows, any_header.Columns)
    assert seg.FrameOfReferenceUID == any_header.FrameOfReferenceUID
    assert seg.StudyInstanceUID == study


def test_a_destination_that_is_down_gets_its_results_when_it_is_back(
    compiled_store: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    with running_orthanc(tmp_path) as orthanc:
        toml = destination(orthanc) + "attempts = 100\n"
    with LightboxServer(store=compiled_store, toml=toml) as server:
        send(server, phantom_folder)
        jobs = ended_jobs(server.client(), study_of(phantom_folder), 3)
        until = time.monotonic() + DEADLINE_S
        while not all(delivery["attempts"] for delivery in wait_for_deliveries(server, jobs, "PENDING")):
            assert time.monotonic() < until
            time.sleep(0.1)
        (tmp_path / "again").mkdir()
        with running_orthanc(tmp_path / "again", dicom_port=orthanc.dicom_port):
            assert len(wait_for_deliveries(server, jobs, "DELIVERED")) == 4


def _file(data: bytes, folder: Path) -> Path:
    path = folder.parent / "seg-to-compare.dcm"
    path.write_bytes(data)
    return path

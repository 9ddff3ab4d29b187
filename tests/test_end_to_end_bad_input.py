"""Bad input: a clear refusal from the standard or in a job record, nothing lost, and the server stays up."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from loadtest.client import LightboxClient
from loadtest.server import LightboxServer
from loadtest.studies import StudyTemplate
from tests.end_to_end import ended_jobs, send, storescu, study_of

QUICK = {"LIGHTBOX_COMPLETENESS__QUIET_S": "0.2", "LIGHTBOX_COMPLETENESS__TIMEOUT_S": "2"}


@pytest.fixture(scope="module")
def server(compiled_store: Path) -> Iterator[LightboxServer]:
    with LightboxServer(store=compiled_store, settings=QUICK) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: LightboxServer) -> LightboxClient:
    return server.client()


def refused(client: LightboxClient, study: str, count: int) -> tuple[set[str], str]:
    """Reasons and one message of a study whose jobs must all be REFUSED."""
    jobs = ended_jobs(client, study, count)
    assert {job["state"] for job in jobs} == {"REFUSED"}, [(j["state"], j["message"]) for j in jobs]
    return {job["reason"] for job in jobs}, str(jobs[0]["message"])


@pytest.mark.parametrize(
    ("folder", "reason", "word"),
    [
        ("failing/ct-gantry-tilt", "gantry-tilt", "sheared"),
        ("failing/ct-missing-slice", "missing-slice", "missing"),
        ("small/mr-siemens-trio", "no-route", "MR"),
        ("small/mr-philips-enhanced", "no-route", "MR"),
        ("failing/mr-mixed-orientation", "no-route", "MR"),
    ],
)
def test_a_series_that_cannot_be_computed_is_refused_by_name_and_kept(
    server: LightboxServer, client: LightboxClient, shared_data: Path, folder: str, reason: str, word: str
) -> None:
    source = shared_data / "dicom" / folder
    send(server, source)
    study = study_of(source)
    count = 1 if reason == "no-route" else 3
    reasons, message = refused(client, study, count)
    assert reasons == {reason}
    assert word in message
    assert len(client.retrieve(study)) == len(list(source.iterdir()))


def test_a_tilted_and_irregular_head_is_refused_by_name(
    server: LightboxServer, client: LightboxClient, shared_data: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(shared_data / "dicom" / "ct-head-ge-tilt-irregular.zip") as archive:
        archive.extractall(tmp_path)
    send(server, tmp_path)
    reasons, message = refused(client, study_of(tmp_path), 3)
    assert reasons <= {"gantry-tilt", "irregular-spacing"}
    assert message


def test_every_odd_file_is_taken_or_refused_and_the_server_stays_up(
    server: LightboxServer, client: LightboxClient, shared_data: Path
) -> None:
    for path in sorted((shared_data / "dicom" / "odd").iterdir()):
        done = storescu(server, path)
        said = done.stdout + done.stderr
        assert "Success" in said or "Store Failed" in said or "No DICOM" in said or done.returncode != 0, said
        assert server.is_running()
        assert client.is_ready()


def test_one_slice_is_refused_by_the_contract(
    server: LightboxServer, client: LightboxClient, phantom_folder: Path, tmp_path: Path
) -> None:
    study = StudyTemplate.read(phantom_folder).copy("single", count=1)
    study.write(tmp_path)
    send(server, tmp_path)
    reasons, message = refused(client, study.study_instance_uid, 3)
    assert reasons == {"outside-contract"}
    assert "the number of images is 1" in message


def test_a_slice_that_cannot_be_decoded_refuses_the_jobs_and_keeps_the_images(
    server: LightboxServer, client: LightboxClient, phantom_folder: Path, tmp_path: Path
) -> None:
    study = StudyTemplate.read(phantom_folder).copy("cut")
    files = study.write(tmp_path)
    dataset = dcmread(files[3])
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    dataset.save_as(files[3])
    send(server, tmp_path)
    reasons, message = refused(client, study.study_instance_uid, 3)
    assert reasons == {"undecodable"}
    assert "(7FE0,0010)" in message
    assert len(client.retrieve(study.study_instance_uid)) == len(files)


def test_a_file_that_is_no_dicom_is_refused_over_http_with_a_sentence(
    client: LightboxClient, tmp_path: Path
) -> None:
    from loadtest.client import ServerSaid

    with pytest.raises(ServerSaid) as said:
        client.stow([b"this is no DICOM file"])
    assert said.value.status == 409


def test_refusals_name_no_patient(server: LightboxServer, phantom_folder: Path) -> None:
    patient = dcmread(next(phantom_folder.iterdir()), stop_before_pixels=True)
    log = (server.data_dir / "server.log").read_text()
    for value in (str(patient.PatientName), str(patient.PatientID)):
        assert value not in log

"""Bad input: a clear refusal from the standard or in a job record, nothing lost, and the server stays up."""

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from loadtest.client import LightboxClient, ServerSaid
from loadtest.server import LightboxServer
from loadtest.studies import StudyTemplate
from tests.end_to_end import c_store, data_set_of, ended_jobs, send, study_of, wait_until

QUICK = {"LIGHTBOX_COMPLETENESS__QUIET_S": "0.2", "LIGHTBOX_COMPLETENESS__TIMEOUT_S": "2"}

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

MARKER = "Zyxmarker^Doe"
MARKED = (
    *("PatientName", "PatientID", "OtherPatientNames", "PatientAddress", "PatientComments"),
    *("AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *("ReferringPhysicianName", "OperatorsName", "InstitutionName", "StationName", "ImageComments"),
    *("Manufacturer", "BodyPartExamined", "ImageType"),
)


class Odd(NamedTuple):
    """What is answered to a file. Refused at a door: in these words; else stored, and its jobs refused."""

    by_dimse: str = ""
    by_stow: str = ""
    reason: str = ""
    message: str = ""
    jobs: int = 0


def at_the_doors(by_dimse: str, by_stow: str = "") -> Odd:
    return Odd(by_dimse, by_stow or by_dimse)


def of_modality(modality: str) -> Odd:
    """Stored; no pipeline wants it."""
    message = f"no route of tenant 'local' matches: Modality (0008,0060) is {modality}"
    return Odd(reason="no-route", message=message, jobs=1)


ONE_CT = Odd(reason="outside-contract", message="the number of images is 1; must be at least 3", jobs=3)
NO_SOP_CLASS = "SOP Class UID (0008,0016) is missing."
NO_DICM = "Not a DICOM file: 'DICM' does not stand at byte 128."

ODD = {
    "CT_small.dcm": ONE_CT,
    "ExplVR_BigEndNoMeta.dcm": at_the_doors(NO_SOP_CLASS, NO_DICM),
    "ExplVR_LitEndNoMeta.dcm": at_the_doors(NO_SOP_CLASS, NO_DICM),
    "J2K_pixelrep_mismatch.dcm": ONE_CT,
    "JPEG2000-embedded-sequence-delimiter.dcm": of_modality("NM"),
    "JPGExtended.dcm": of_modality("NM"),
    "MR_small.dcm": of_modality("MR"),
    "MR_small_RLE.dcm": of_modality("MR"),
    "MR_small_bigendian.dcm": of_modality("MR"),
    "MR_small_jp2klossless.dcm": of_modality("MR"),
    "MR_small_jpeg_ls_lossless.dcm": of_modality("MR"),
    "MR_small_padded.dcm": of_modality("MR"),
    "MR_truncated.dcm": of_modality("MR"),
    "SC_rgb_jpeg.dcm": at_the_doors("The bytes behind (0008,0008) are no value representation."),
    "SC_rgb_small_odd.dcm": of_modality("OT"),
    "UN_sequence.dcm": at_the_doors(NO_SOP_CLASS),
    "badVR.dcm": of_modality("RTDOSE"),
    "empty_charset_LEI.dcm": at_the_doors(NO_SOP_CLASS),
    "image_dfl.dcm": of_modality("OT"),
    "meta_missing_tsyntax.dcm": at_the_doors(
        NO_SOP_CLASS, "The File Meta Information has no Transfer Syntax UID (0002,0010)."
    ),
    "nested_priv_SQ.dcm": at_the_doors(NO_SOP_CLASS),
    "no_meta.dcm": at_the_doors(NO_SOP_CLASS, NO_DICM),
    "no_meta_group_length.dcm": at_the_doors(NO_SOP_CLASS),
    "priv_SQ.dcm": at_the_doors(NO_SOP_CLASS),
    "reportsi.dcm": of_modality("SR"),
    "rtdose.dcm": of_modality("RTDOSE"),
    "rtplan_truncated.dcm": of_modality("RTPLAN"),
    "zipMR.gz": at_the_doors(NO_SOP_CLASS, NO_DICM),
}


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


def test_every_odd_file_has_its_expected_answer(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "dicom" / "odd").iterdir()} == set(ODD)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_answered_as_expected_at_both_doors(
    server: LightboxServer, client: LightboxClient, shared_data: Path, name: str
) -> None:
    expected = ODD[name]
    data = (shared_data / "dicom" / "odd" / name).read_bytes()
    data_set, syntax = data_set_of(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd they are
        header = dcmread(BytesIO(data), stop_before_pixels=True, force=True)
    study = str(header.get("StudyInstanceUID") or "1.2.3")

    before = {job["id"] for job in client.jobs(study=study)}
    status, comment = c_store(
        server,
        data_set,
        sop_class=str(header.get("SOPClassUID") or CT_IMAGE),
        sop_instance=str(header.get("SOPInstanceUID") or "1.2.3.4"),
        syntax=syntax,
    )
    if expected.by_dimse:
        assert (status, comment) == (0xC000, expected.by_dimse)
    else:
        assert (status, comment) == (0x0000, "")
        assert refused_again(client, study, before, expected) == expected.message

    before = {job["id"] for job in client.jobs(study=study)}
    if expected.by_stow:
        with pytest.raises(ServerSaid) as said:
            client.stow([data])
        (failure,) = json.loads(said.value.text)["0008119A"]["Value"]
        assert (said.value.status, failure["00081197"]["Value"]) == (409, [0xC000])
        assert failure["00000902"]["Value"] == [expected.by_stow]
    else:
        assert len(client.stow([data])["00081199"]["Value"]) == 1
        assert refused_again(client, study, before, expected) == expected.message
    assert client.is_ready()


def refused_again(client: LightboxClient, study: str, before: set[str], expected: Odd) -> str:
    """The message of the jobs of a study that were not there before; all must be REFUSED for the reason."""

    def new() -> list[dict[str, Any]]:
        return [job for job in client.jobs(study=study) if job["id"] not in before]

    wait_until(lambda: len(new()) == expected.jobs, f"{expected.jobs} new jobs", deadline_s=10)
    assert {(job["state"], job["reason"]) for job in new()} == {("REFUSED", expected.reason)}
    return str(new()[0]["message"])


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
    with pytest.raises(ServerSaid) as said:
        client.stow([b"this is no DICOM file"])
    assert said.value.status == 409


def test_refusals_name_no_patient(
    compiled_store: Path, phantom_folder: Path, shared_data: Path, tmp_path: Path
) -> None:
    template = StudyTemplate.read(phantom_folder)
    with LightboxServer(store=compiled_store, settings=QUICK) as server:
        client = server.client()

        def send_marked(name: str, change: Callable[[Dataset, int], None], count: int = 4) -> str:
            """Mark some images, change them, send them by dcmtk; their study."""
            study = template.copy(name, count=count)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the marker is no valid code string, and so on
                for number, path in enumerate(study.write(tmp_path / name)):
                    image = dcmread(path)
                    mark(image)
                    change(image, number)
                    image.save_as(path)
            send(server, tmp_path / name)
            return study.study_instance_uid

        def other_modality(image: Dataset, number: int) -> None:
            image.Modality = MARKER

        def cut(image: Dataset, number: int) -> None:
            image.PixelData = image.PixelData[:100]

        def odd_rescale(image: Dataset, number: int) -> None:
            image.add_new(0x00281053, "LO", MARKER)

        def odd_geometry(image: Dataset, number: int) -> None:
            image.add_new(0x00200037, "LO", MARKER)

        def one_missing(image: Dataset, number: int) -> None:
            if number > 1:
                position = [float(x) for x in image.ImagePositionPatient]
                image.ImagePositionPatient = [*position[:2], position[2] + 50]

        def two_patients(image: Dataset, number: int) -> None:
            image.PatientID = f"{MARKER}{number}"

        reasons = {}
        for change in (other_modality, cut, odd_rescale, odd_geometry, one_missing, two_patients):
            study = send_marked(change.__name__, change)
            jobs = ended_jobs(client, study, 1)
            reasons[change.__name__] = {(job["state"], job["reason"]) for job in jobs}
        assert {state for states in reasons.values() for state, _ in states} == {"REFUSED"}, reasons

        unnamed = dcmread(phantom_folder / sorted(p.name for p in phantom_folder.iterdir())[0])
        mark(unnamed)
        del unnamed.StudyInstanceUID
        sop_class, sop_instance = str(unnamed.SOPClassUID), str(unnamed.SOPInstanceUID)
        unnamed.save_as(tmp_path / "unnamed.dcm")
        data = (tmp_path / "unnamed.dcm").read_bytes()
        data_set, syntax = data_set_of(data)
        status, comment = c_store(
            server, data_set, sop_class=sop_class, sop_instance=sop_instance, syntax=syntax
        )
        assert status == 0xC000
        with pytest.raises(ServerSaid) as said:
            client.stow([data])

        names = [str(path.relative_to(server.data_dir)) for path in server.data_dir.rglob("*")]
        told = {
            "C-STORE response": comment,
            "STOW response": said.value.text,
            "log": (server.data_dir / "server.log").read_text(errors="replace"),
            "jobs": json.dumps([client.job(job["id"]) for job in client.jobs()]),
            "metrics": client.get("/metrics").decode(),
            "status": json.dumps(client.status()),
            "file names": "\n".join(names),
        }
        assert not {where for where, text in told.items() if MARKER.casefold() in text.casefold()}


def mark(image: Dataset) -> None:
    """Put the marker wherever a person, a place or free text may stand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword in MARKED:
            setattr(image, keyword, MARKER)

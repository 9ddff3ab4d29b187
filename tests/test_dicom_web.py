"""STOW-RS, WADO-RS and QIDO-RS, driven by dicomweb-client and by requests that no good client would make."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dicomweb_client.api import DICOMwebClient
from fastapi import FastAPI
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from serving.errors import NoCapacity
from serving.web import WebServer, listen
from tests.dicom_front import MAX_BODY_BYTES, MAX_OBJECT_BYTES, Front, ct_image, running_front

MULTIPART = 'multipart/related; type="application/dicom"; boundary=xyz'


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with running_front(tmp_path_factory.mktemp("front")) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Front:
    shared_front.received.clear()
    shared_front.closed.clear()
    shared_front.batches.clear()
    shared_front.refused.clear()
    shared_front.refusal = None
    return shared_front


def client(front: Front, key: str = "") -> DICOMwebClient:
    headers = {"Authorization": f"Bearer {key}"} if key else None
    return DICOMwebClient(url=f"{front.url}/dicom-web", headers=headers)


def part10(image: Dataset) -> bytes:
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def as_sent(image: Dataset) -> bytes:
    """The bytes that dicomweb-client makes of it."""
    buffer = BytesIO()
    dcmwrite(buffer, image)
    return buffer.getvalue()


def body(*parts: bytes, kind: str = "application/dicom") -> bytes:
    head = f"\r\n--xyz\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + part for part in parts) + b"\r\n--xyz--\r\n"


def ask(
    front: Front, path: str, *, data: bytes | None = None, key: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request: status, headers, body."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        given["X-Api-Key"] = key
    request = urllib.request.Request(f"{front.url}/dicom-web{path}", data, given)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def stow(front: Front, data: bytes, path: str = "/studies", **headers: str) -> tuple[int, dict[str, Any]]:
    status, _, answer = ask(front, path, data=data, **({"Content_Type": MULTIPART} | headers))
    return status, json.loads(answer)


def test_what_was_stored_comes_back_byte_for_byte(front: Front) -> None:
    study, series = generate_uid(), generate_uid()
    images = [ct_image(number, study=study, series=series) for number in (1, 2, 3)]
    response = client(front).store_instances(images)
    assert len(response.ReferencedSOPSequence) == 3
    assert response.RetrieveURL.endswith(f"/dicom-web/studies/{study}")
    assert [Path(instance.path).read_bytes() for instance in front.received] == [as_sent(i) for i in images]
    back = client(front).retrieve_series(study, series)
    assert {image.SOPInstanceUID for image in back} == {image.SOPInstanceUID for image in images}
    one = client(front).retrieve_instance(study, series, images[1].SOPInstanceUID)
    assert one == images[1]
    assert len(client(front).retrieve_study(study)) == 3


def test_a_request_counts_as_an_association_and_its_images_are_journalled_in_groups(front: Front) -> None:
    study, series = generate_uid(), generate_uid()
    images = [part10(ct_image(number, study=study, series=series)) for number in range(40)]
    status, _ = stow(front, body(*images))
    assert status == 200
    assert len({instance.association for instance in front.received}) == 1
    assert front.closed == [front.received[0].association]
    assert len(front.batches) < 5


def test_metadata_is_given_as_dicom_json_without_pixels(front: Front) -> None:
    image = ct_image()
    client(front).store_instances([image])
    (metadata,) = client(front).retrieve_series_metadata(image.StudyInstanceUID, image.SeriesInstanceUID)
    assert metadata["00080018"]["Value"] == [image.SOPInstanceUID]
    assert metadata["00280010"] == {"vr": "US", "Value": [32]}
    assert "7FE00010" not in metadata


def test_one_instance_is_given_bare_where_only_that_is_taken(front: Front) -> None:
    image = ct_image()
    stow(front, body(part10(image)))
    path = (
        f"/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    )
    status, headers, data = ask(front, path, Accept="application/dicom")
    assert (status, headers["content-type"]) == (200, "application/dicom")
    assert dcmread(BytesIO(data)).SOPInstanceUID == image.SOPInstanceUID
    assert ask(front, path, Accept="image/jpeg")[0] == 406
    jpeg = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'
    assert ask(front, path, Accept=jpeg)[0] == 406
    assert ask(front, path, Accept=jpeg + ', multipart/related; type="application/dicom"')[0] == 200
    assert ask(front, "/studies/1.2.3")[0] == 404
    assert ask(front, "/studies/..%2f..%2fetc")[0] in (400, 404)


def test_searches_find_by_attribute_and_page(front: Front) -> None:
    study = generate_uid()
    image = ct_image(7, study=study)
    image.PatientID = "only-here"
    other = ct_image(8, study=study)
    other.PatientID, other.Modality = "only-here", "MR"
    client(front).store_instances([image, other])
    (found,) = client(front).search_for_studies(search_filters={"PatientID": "only-here"})
    assert found["0020000D"]["Value"] == [study]
    assert found["00201206"] == {"vr": "IS", "Value": [2]}
    assert found["00080061"]["Value"] == ["CT", "MR"]
    assert found["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]
    (series,) = client(front).search_for_series(study, search_filters={"Modality": "MR"})
    assert series["0020000E"]["Value"] == [other.SeriesInstanceUID]
    (instance,) = client(front).search_for_instances(study, search_filters={"00200013": "7"})
    assert instance["00080018"]["Value"] == [image.SOPInstanceUID]
    assert len(client(front).search_for_instances(study, limit=1, offset=1)) == 1
    assert client(front).search_for_studies(search_filters={"PatientID": "only-*", "StudyDate": "2024-"})
    assert not client(front).search_for_studies(search_filters={"PatientID": "nobody"})
    assert ask(front, "/studies?NoSuchAttribute=1")[0] == 400
    assert ask(front, "/studies?limit=-1")[0] == 400


def test_no_tenant_sees_what_another_has(front: Front) -> None:
    image = ct_image()
    assert stow(front, body(part10(image)), X_Api_Key="north-key")[0] == 200
    assert front.received[0].tenant == "north"
    study = image.StudyInstanceUID
    assert len(client(front, "north-key").retrieve_study(study)) == 1
    assert ask(front, f"/studies/{study}")[0] == 404
    assert json.loads(ask(front, f"/studies?StudyInstanceUID={study}")[2]) == []
    assert ask(front, f"/studies/{study}", key="wrong")[0] == 401
    assert stow(front, body(part10(image)), X_Api_Key="wrong")[0] == 401


def test_failures_are_named_and_the_rest_is_stored(front: Front) -> None:
    good, no_series = ct_image(1), ct_image(2)
    del no_series.SeriesInstanceUID
    private = ct_image(3)
    private.SOPClassUID = "1.2.3.4"
    status, answer = stow(front, body(part10(good), b"not DICOM", part10(no_series), part10(private)))
    assert status == 202
    assert [i["00081155"]["Value"][0] for i in answer["00081199"]["Value"]] == [good.SOPInstanceUID]
    (failed,) = answer["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [private.SOPInstanceUID]
    assert failed["00081197"]["Value"] == [0x0122]
    assert [i["00081197"]["Value"][0] for i in answer["0008119A"]["Value"]] == [0xC000, 0xC000]
    assert len(front.received) == 1
    kinds = ["bad-dataset", "bad-dataset", "sop-class-unsupported"]
    assert sorted(front.refused) == [("image", kind) for kind in kinds]


def test_a_part_larger_than_an_object_may_be_is_refused_and_the_rest_is_stored(front: Front) -> None:
    before = front.spooled()
    large = ct_image()
    large.PixelData = bytes(MAX_OBJECT_BYTES)
    status, answer = stow(front, body(part10(large), part10(ct_image())))
    assert status == 202
    assert answer["0008119A"]["Value"][0]["00081197"]["Value"] == [0xA700]
    assert len(front.received) == 1
    assert len(front.spooled()) == len(before) + 1
    assert front.refused == [("image", "too-large")]


def test_a_request_refused_as_a_whole_is_counted(front: Front) -> None:
    assert stow(front, body(b"x"), X_Api_Key="wrong")[0] == 401
    assert front.refused == [("association", "not-authenticated")]


def test_a_body_that_stalls_is_given_up_and_leaves_nothing(front: Front) -> None:
    before = front.spooled()
    first = body(part10(ct_image())).removesuffix(b"--\r\n") + b"\r\n"
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART}\r\n"
    head += "Content-Length: 99999\r\n\r\n"
    host, port = front.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(head.encode() + first)
        answer = b""
        while not answer.endswith(b"}") and (more := peer.recv(65536)):
            answer += more
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Nothing more of the body came in 1 s." in answer
    assert front.refused == [("association", "timed-out")]
    assert front.spooled() == before


def test_more_connections_than_allowed_are_answered_503() -> None:
    async def scene() -> None:
        listening = listen("http.port", "127.0.0.1", 0)
        host, port = listening.getsockname()
        app = FastAPI()
        app.get("/")(lambda: "here")
        server = WebServer(app, listening, max_connections=4)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run_until_stopped())
            await server.wait_started()
            held = [await asyncio.open_connection(host, port) for _ in range(2)]
            assert b" 200 " in await asked(host, port)
            held.append(await asyncio.open_connection(host, port))
            assert b" 503 " in await asked(host, port)
            server.stop()
            for _, writer in held:
                writer.close()
                await writer.wait_closed()
        listening.close()

    async def asked(host: str, port: int) -> bytes:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    asyncio.run(scene())


def test_a_study_in_the_path_must_be_the_one_of_the_images(front: Front) -> None:
    image = ct_image()
    assert stow(front, body(part10(image)), f"/studies/{image.StudyInstanceUID}")[0] == 200
    status, answer = stow(front, body(part10(ct_image())), f"/studies/{image.StudyInstanceUID}")
    assert status == 409
    assert answer["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]


@pytest.mark.parametrize(
    ("content_type", "data", "status"),
    [
        ("application/json", b"{}", 415),
        ('multipart/related; type="application/dicom+json"; boundary=xyz', body(b"{}"), 415),
        (MULTIPART, body(b"x", kind="image/png"), 415),
        ('multipart/related; type="application/dicom"', body(b"x"), 400),
        (MULTIPART, b"no multipart at all", 400),
        (MULTIPART, b"\r\n--xyz\r\nContent-Type: application/dicom\r\n\r\nends too early", 400),
        (MULTIPART, b"\r\n--xyz--\r\n", 400),
        (MULTIPART, body(b""), 409),
        (MULTIPART, body(bytes(MAX_BODY_BYTES)), 413),
    ],
    ids=["json", "metadata", "png", "no boundary", "no parts", "cut", "empty", "empty part", "too large"],
)
def test_a_body_that_cannot_be_stored_is_answered_by_the_standards_status(
    front: Front, content_type: str, data: bytes, status: int
) -> None:
    before = front.spooled()
    assert stow(front, data, Content_Type=content_type)[0] == status
    assert front.spooled() == before


def test_a_journal_that_cannot_be_written_is_503_and_leaves_no_file(front: Front) -> None:
    front.refusal = NoCapacity("The journal cannot be written.")
    before = front.spooled()
    status, answer = stow(front, body(part10(ct_image())))
    assert status == 503
    assert answer["00081198"]["Value"][0]["00081197"]["Value"] == [0xA700]
    assert front.spooled() == before


def test_odd_files_are_stored_or_refused_and_nothing_breaks(front: Front, shared_data: Path) -> None:
    answers = {}
    for file in sorted((shared_data / "dicom" / "odd").iterdir()):
        answers[file.name] = stow(front, body(file.read_bytes()))[0]
    assert set(answers.values()) <= {200, 409}
    refused = {name for name, status in answers.items() if status == 409}
    assert refused >= {
        "no_meta.dcm",
        "ExplVR_LitEndNoMeta.dcm",
        "ExplVR_BigEndNoMeta.dcm",
        "meta_missing_tsyntax.dcm",
        "zipMR.gz",
    }
    assert {
        "CT_small.dcm",
        "MR_small_bigendian.dcm",
        "image_dfl.dcm",
        "badVR.dcm",
    } <= answers.keys() - refused

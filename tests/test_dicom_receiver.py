"""The C-STORE SCP, driven by real peers: dcmtk, and bytes that are no DICOM at all."""

import contextlib
import hashlib
import socket
import struct
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from serving.config import Dimse
from serving.dicom.header import file_meta
from serving.errors import NoCapacity
from tests.conftest import program
from tests.dicom_front import MAX_OBJECT_BYTES, Front, ct_image, ct_series, running_front

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with running_front(tmp_path_factory.mktemp("front")) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Front:
    shared_front.received.clear()
    shared_front.closed.clear()
    shared_front.refused.clear()
    shared_front.refusal = None
    return shared_front


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def p_data(context: int, control: int, data: bytes) -> bytes:
    item = struct.pack(">LBB", len(data) + 2, context, control) + data
    return struct.pack(">BBL", 4, 0, len(item)) + item


def one_pdu(pdus: list[bytes]) -> bytes:
    """Their items in one P-DATA-TF."""
    items = b"".join(pdu[6:] for pdu in pdus)
    return struct.pack(">BBL", 4, 0, len(items)) + items


def store_command(*, data_set: bool) -> bytes:
    """The command set of a C-STORE request."""
    return (
        element(0x0002, CT.encode() + b"\0")
        + element(0x0100, struct.pack("<H", 1))
        + element(0x0110, struct.pack("<H", 1))
        + element(0x0800, struct.pack("<H", 0 if data_set else 0x0101))
        + element(0x1000, b"1.2.3\0")
    )


def raw_association(front: Front, *, read: bool = False) -> tuple[Association, socket.socket]:
    """An association (context 1: CT) and its socket, to write what no good sender would.

    read: the socket is ours to read as well.
    """
    entity = AE()
    entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
    association = entity.associate(front.host, front.port, ae_title="LIGHTBOX")
    assert association.is_established
    transport = association.dul.socket
    assert transport is not None
    assert transport.socket is not None
    if not read:
        return association, transport.socket
    ours = transport.socket.dup()
    association._reactor_checkpoint.clear()
    association.dul._kill_thread = True
    association.dul.join(5)
    ours.settimeout(10)
    return association, ours


def storescu(front: Front, *arguments: object, called: str = "LIGHTBOX") -> subprocess.CompletedProcess[str]:
    command = [program("storescu", "dcmtk"), "-v", "-aec", called, front.host, str(front.port)]
    command += [str(argument) for argument in arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_echo_is_answered(front: Front) -> None:
    command = [program("echoscu", "dcmtk"), "-aec", "LIGHTBOX", front.host, str(front.port)]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


def test_a_stored_image_is_on_disk_byte_for_byte_and_in_the_journal(front: Front, tmp_path: Path) -> None:
    files = ct_series(tmp_path / "ct", 5)
    assert storescu(front, *files).returncode == 0
    assert [instance.tenant for instance in front.received] == ["local"] * 5
    for sent, instance in zip(files, front.received, strict=True):
        kept = Path(instance.path).read_bytes()
        assert instance.digest == f"sha256:{hashlib.sha256(kept).hexdigest()}:{len(kept)}"
        assert data_set(kept) == data_set(sent.read_bytes())
        assert dcmread(instance.path).file_meta.MediaStorageSOPInstanceUID == instance.sop_instance_uid
        assert instance.attributes["Modality"] == "CT"
        assert instance.attributes["Rows"] == "32"
        assert instance.attributes["ImagePositionPatient"].startswith("0.0\\0.0\\")
        assert instance.patient["PatientID"] == "P-1"
        assert "PatientID" not in instance.attributes
        assert not any(word in instance.path for word in ("Doe", "P-1", instance.sop_instance_uid))


def data_set(file: bytes) -> bytes:
    return file[file_meta(file)[1] :]


def test_the_end_of_an_association_is_reported_once_after_its_images(front: Front, tmp_path: Path) -> None:
    storescu(front, *ct_series(tmp_path, 2))
    front.wait_until(lambda: len(front.closed) == 1, "the association's end was not reported")
    assert front.closed == [front.received[0].association]


def test_an_image_sent_twice_is_kept_once(front: Front, tmp_path: Path) -> None:
    (file,) = ct_series(tmp_path, 1)
    before = len(front.spooled())
    assert storescu(front, file).returncode == 0
    assert storescu(front, file).returncode == 0
    assert len({instance.digest for instance in front.received}) == 1
    front.wait_until(lambda: len(front.spooled()) == before + 1, "the second copy was not removed")


def test_a_called_ae_title_belongs_to_a_tenant_or_is_rejected(front: Front, tmp_path: Path) -> None:
    (file,) = ct_series(tmp_path, 1)
    assert storescu(front, file, called="NORTH").returncode == 0
    assert [instance.tenant for instance in front.received] == ["north"]
    assert "/north/" in front.received[0].path
    rejected = storescu(front, file, called="NOBODY")
    assert "Called AE Title Not Recognized" in rejected.stderr
    rejected = storescu(front, file, called="FAR")  # known, but only from another network
    assert "Calling AE Title Not Recognized" in rejected.stderr
    assert front.refused == [("association", "called-ae-title"), ("association", "calling-ae-title")]


def test_a_refusal_of_the_journal_is_answered_out_of_resources_and_leaves_no_file(
    front: Front, tmp_path: Path
) -> None:
    front.refusal = NoCapacity("The journal cannot be written.")
    before = front.spooled()
    answer = storescu(front, *ct_series(tmp_path, 1))
    assert "0xa700" in answer.stderr.lower() or "OutOfResources" in answer.stderr
    assert front.spooled() == before
    test_an_echo_is_answered(front)
    assert front.refused == []  # the journal counts its own


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        (lambda ds: setattr(ds, "SeriesInstanceUID", ""), 0xC000, "(0020,000E)"),
        (lambda ds: setattr(ds, "StudyInstanceUID", "../../etc"), 0xC000, "(0020,000D)"),
        (lambda ds: delattr(ds, "SOPClassUID"), 0xC000, "(0008,0016)"),
        (lambda ds: setattr(ds, "SOPInstanceUID", "1.2.3"), 0xA900, "(0008,0018)"),
        (lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.4"), 0xA900, "(0008,0016)"),
    ],
    ids=["no series", "path as study", "no class", "other instance", "other class"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, on what is wrong on purpose
def test_a_data_set_that_is_wrong_is_refused_by_its_tag(
    front: Front, change: Callable[[Dataset], None], status: int, word: str
) -> None:
    image = ct_image()
    sop_instance_uid = image.SOPInstanceUID
    change(image)
    answer = raw_c_store(front, image, sop_instance_uid)
    assert answer.Status == status
    assert word in str(answer.ErrorComment)
    assert front.received == []
    kind = "dataset-mismatch" if status == 0xA900 else "bad-dataset"
    front.wait_until(lambda: front.refused == [("image", kind)], "the refusal was not counted")


def raw_c_store(front: Front, image: Dataset, sop_instance_uid: str) -> C_STORE:
    """A C-STORE whose command says what we want, whatever the data set says."""
    entity = AE()
    entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
    association = entity.associate(front.host, front.port, ae_title="LIGHTBOX")
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, sop_instance_uid
    request.DataSet = BytesIO(encode(image, False, True) or b"")
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id or 0)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert isinstance(response, C_STORE)
    return response


def test_compressed_images_are_taken_in_the_syntax_they_are_in(front: Front, shared_data: Path) -> None:
    folder = shared_data / "dicom" / "small"
    for name, flag, syntax in [
        ("mr-jpegll", "-xs", "1.2.840.10008.1.2.4.70"),
        ("mr-j2k", "-xv", "1.2.840.10008.1.2.4.90"),
        ("mr-jpegls", "-xt", "1.2.840.10008.1.2.4.80"),
        ("mr-rle", "-xr", "1.2.840.10008.1.2.5"),
    ]:
        front.received.clear()
        assert storescu(front, flag, "+sd", folder / name).returncode == 0
        assert {instance.transfer_syntax_uid for instance in front.received} == {syntax}


def test_a_deflated_image_is_taken_and_its_header_read(front: Front, shared_data: Path) -> None:
    file = shared_data / "dicom" / "odd" / "image_dfl.dcm"
    assert storescu(front, "-xd", file).returncode == 0
    assert front.received[0].transfer_syntax_uid == "1.2.840.10008.1.2.1.99"


def test_every_odd_file_is_taken_or_refused_and_the_receiver_stays_up(
    front: Front, shared_data: Path
) -> None:
    odd = shared_data / "dicom" / "odd"
    storescu(front, "-nh", "+sd", odd)  # dcmtk sends what it can read; -nh: goes on after a failure
    taken = len(front.received)
    assert taken >= 8
    test_an_echo_is_answered(front)


def test_a_real_series_is_taken_whole(front: Front, shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "dicom" / "ct-head-phantom-philips.zip") as archive:
        archive.extractall(tmp_path)
    assert storescu(front, "+sd", "+r", tmp_path).returncode == 0
    assert len(front.received) == 28
    assert len({instance.series_instance_uid for instance in front.received}) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff" + bytes(100),
        b"\x04\x00\x00\x00\x00\x06" + bytes(6),
        b"\x01\x00\x00\x00\x00\x04" + bytes(4),
        b"\xff" * 64,
        b"",
    ],
)
def test_bytes_that_are_no_dicom_end_their_connection_and_nothing_else(front: Front, garbage: bytes) -> None:
    peer = socket.create_connection((front.host, front.port), timeout=20)
    with peer, contextlib.suppress(OSError):  # it may be cut off before we are done
        peer.sendall(garbage)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass
    test_an_echo_is_answered(front)


def test_a_sender_that_dies_in_the_middle_leaves_no_file(front: Front) -> None:
    before = front.spooled()
    entity = AE()
    entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
    association = entity.associate(front.host, front.port, ae_title="LIGHTBOX")
    command = store_command(data_set=True)
    context = association.accepted_contexts[0].context_id
    assert context is not None
    peer = association.dul.socket.socket  # type: ignore[union-attr]
    assert peer is not None
    peer.sendall(p_data(context, 3, command) + p_data(context, 0, bytes(100_000)))
    front.wait_until(lambda: len(front.spooled()) > len(before), "the file was not begun")
    association.dul.socket._shutdown_socket()  # type: ignore[union-attr]
    front.wait_until(lambda: front.spooled() == before, "the half file was left")
    association.kill()
    assert front.received == []


STORE_WITHOUT_DATA = p_data(1, 3, store_command(data_set=False))


@pytest.mark.parametrize(
    "flood",
    [
        [p_data(1, 1, bytes(60_000))] * 2,
        [p_data(1, 0, bytes(60_000))],
        [STORE_WITHOUT_DATA, p_data(1, 0, bytes(60_000))],
        [one_pdu([STORE_WITHOUT_DATA] * 40)],
    ],
    ids=["endless command", "data without command", "data after none was announced", "unanswered"],
)
def test_what_would_gather_in_memory_or_on_disk_ends_its_association(
    front: Front, flood: list[bytes]
) -> None:
    before = front.spooled()
    association, peer = raw_association(front)
    with contextlib.suppress(OSError):  # it may be cut off before we are done
        peer.sendall(b"".join(flood))
    front.wait_until(lambda: association.is_aborted, "the association was not ended")
    front.wait_until(lambda: front.spooled() == before, "a file was left")
    association.kill()
    test_an_echo_is_answered(front)


def test_requests_that_come_together_are_answered_together(front: Front) -> None:
    """More than the standard allows without negotiation; but some senders do, and nothing is lost by it."""
    _, peer = raw_association(front, read=True)
    began = time.monotonic()
    peer.sendall(one_pdu([STORE_WITHOUT_DATA] * 5))
    answers = b""
    while answers.count(struct.pack("<HHLH", 0, 0x0100, 2, 0x8001)) < 5:
        answers += peer.recv(65536)
    assert time.monotonic() - began < 0.9  # a wait for the socket lasts 1 s
    peer.close()


def test_an_object_larger_than_allowed_is_refused_and_the_association_goes_on(
    front: Front, tmp_path: Path
) -> None:
    before = front.spooled()
    large = ct_image()
    large.PixelData = bytes(MAX_OBJECT_BYTES + 2)
    large.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    ct_image().save_as(tmp_path / "2.dcm", enforce_file_format=True)
    answer = storescu(front, "-nh", "+sd", tmp_path)
    assert "0xa700" in answer.stderr.lower() or "OutOfResources" in answer.stderr
    assert len(front.received) == 1
    assert len(front.spooled()) == len(before) + 1
    assert ("image", "too-large") in front.refused


def test_the_associations_of_a_receiver_that_dies_are_closed(tmp_path: Path) -> None:
    with running_front(tmp_path / "front") as front:
        entity = AE()
        entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = entity.associate(front.host, front.port, ae_title="LIGHTBOX")
        assert association.send_c_store(ct_image()).Status == 0
        front.process.kill()
        front.wait_until(lambda: len(front.closed) == 1, "its association was not closed")
        assert front.closed == [front.received[0].association]
        front.wait_until(lambda: association.is_aborted, "the sender did not hear of it")


def test_a_full_disk_is_said_before_anything_is_taken(tmp_path: Path) -> None:
    with running_front(tmp_path / "front", min_free_bytes=1 << 60) as front:
        answer = storescu(front, *ct_series(tmp_path / "ct", 1))
        assert "OutOfResources" in answer.stderr or "0xa700" in answer.stderr.lower()
        assert front.received == []
        assert front.spooled() == []


def test_more_associations_than_allowed_are_rejected_for_now(tmp_path: Path) -> None:
    with running_front(tmp_path, dimse=Dimse(port=0, max_associations=2)) as front:
        held = []
        for _ in range(2):
            entity = AE()
            entity.add_requested_context("1.2.840.10008.1.1")
            held.append(entity.associate(front.host, front.port, ae_title="LIGHTBOX"))
        refused = subprocess.run(
            [program("echoscu", "dcmtk"), "-v", "-aec", "LIGHTBOX", front.host, str(front.port)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "Local Limit Exceeded" in refused.stderr
        counted = [("association", "too-many-associations")]
        front.wait_until(lambda: front.refused == counted, "the refusal was not counted")
        for association in held:
            association.release()


def test_an_idle_association_is_ended_and_a_stop_ends_the_others(tmp_path: Path) -> None:
    with running_front(tmp_path, dimse=Dimse(port=0, idle_timeout_s=1.0)) as front:
        entity = AE()
        entity.add_requested_context("1.2.840.10008.1.1")
        idle = entity.associate(front.host, front.port, ae_title="LIGHTBOX")
        front.wait_until(lambda: idle.is_aborted, "the idle association was not aborted")
        front.wait_until(lambda: len(front.closed) == 1, "its end was not reported")
        open_one = entity.associate(front.host, front.port, ae_title="LIGHTBOX")
        front.stop()
        front.wait_until(lambda: open_one.is_aborted, "the stop did not end the association")
    assert front.process.exitcode == 0
    assert len(front.closed) == 2

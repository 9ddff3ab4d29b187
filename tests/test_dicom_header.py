"""Walking a data set without decoding it: the values it finds, and what hostile bytes cost."""

import contextlib
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from serving.dicom.header import elements, encoding_of, file_meta
from serving.dicom.instance import ATTRIBUTES, UIDS, check_agrees, read_header
from serving.errors import BadDataset, DatasetMismatch, RequestError, TransferSyntaxUnsupported
from tests.dicom_front import ct_image

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def encoded(dataset: Dataset, syntax: str) -> bytes:
    explicit, big_endian = encoding_of(syntax)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = not explicit, not big_endian
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_identifiers_and_attributes_are_read_in_every_encoding(syntax: str) -> None:
    image = ct_image(5)
    image.add_new(Tag(0x0008, 0x1140), "SQ", Sequence([Dataset(), ct_image()]))
    image["ReferencedImageSequence"].is_undefined_length = True
    data = encoded(image, EXPLICIT if syntax == DEFLATED else syntax)
    if syntax == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflate.compress(data) + deflate.flush()
    header = read_header(data, syntax)
    assert header.sop_instance_uid == image.SOPInstanceUID
    assert header.attributes["Rows"] == "32"
    assert header.attributes["InstanceNumber"] == "5"
    assert header.attributes["ImageType"] == "ORIGINAL\\PRIMARY\\AXIAL"
    assert header.patient["PatientName"] == "Doe^Jane"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "山田^太郎"), ("ISO_IR 144", "Люкceмбypг"), ("", "Doe^J")],
)
def test_a_patients_name_is_read_in_its_character_set(character_set: str, name: str) -> None:
    image = ct_image()
    image.SpecificCharacterSet = character_set
    image.PatientName = name
    assert read_header(encoded(image, EXPLICIT), EXPLICIT).patient["PatientName"] == name


def test_every_file_of_the_real_data_reads_as_pydicom_reads_it(shared_data: Path) -> None:
    compared = 0
    for file in sorted((shared_data / "dicom").rglob("*.dcm")):
        data = file.read_bytes()
        try:
            syntax, start = file_meta(data)
            header = read_header(data, syntax, start)
        except RequestError:
            continue
        dataset = dcmread(file, stop_before_pixels=True)
        for tag in UIDS:
            assert header.uids[tag] == dataset[tag].value
        present = {keyword for tag, keyword in ATTRIBUTES.items() if tag in dataset}
        assert present == header.attributes.keys(), file.name
        compared += 1
    assert compared > 60


def test_a_missing_or_impossible_uid_is_named_by_its_tag() -> None:
    image = ct_image()
    del image.StudyInstanceUID
    with pytest.raises(BadDataset, match=r"\(0020,000D\) is missing") as missing:
        read_header(encoded(image, EXPLICIT), EXPLICIT)
    assert missing.value.tag == 0x0020000D


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.3\n", "1" * 65, "1..2", "a"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, on what is wrong on purpose
def test_a_uid_that_cannot_be_one_is_refused(uid: str) -> None:
    image = ct_image()
    image.add_new(0x0020000D, "LO", uid)
    with pytest.raises(BadDataset, match="Study Instance UID"):
        read_header(encoded(image, IMPLICIT), IMPLICIT)


def test_a_data_set_must_be_what_the_request_announced() -> None:
    image = ct_image()
    header = read_header(encoded(image, EXPLICIT), EXPLICIT)
    check_agrees(header, sop_class_uid=image.SOPClassUID, sop_instance_uid=image.SOPInstanceUID)
    with pytest.raises(DatasetMismatch):
        check_agrees(header, sop_class_uid=image.SOPClassUID, sop_instance_uid="1.2.3")


def test_ten_thousand_nested_sequences_cost_no_recursion() -> None:
    level = struct.pack("<HHLHHL", 0x0008, 0x1140, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    data = level * 10_000 + end * 10_000 + encoded(ct_image(), IMPLICIT)
    assert read_header(data, IMPLICIT).attributes["Modality"] == "CT"
    with pytest.raises(BadDataset):
        read_header(level * 10_000, IMPLICIT)


def test_a_pixel_bomb_is_not_inflated() -> None:
    bomb = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    with pytest.raises(BadDataset):
        read_header(data, DEFLATED)


def test_a_private_transfer_syntax_is_refused() -> None:
    with pytest.raises(TransferSyntaxUnsupported):
        elements(b"", "1.2.840.113619.5.2", (0x00080018,))


@given(data=st.binary(max_size=2000), syntax=st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]))
def test_any_bytes_are_walked_or_refused(data: bytes, syntax: str) -> None:
    with contextlib.suppress(RequestError):
        read_header(data, syntax)


@given(at=st.integers(0, 500), byte=st.integers(0, 255), cut=st.integers(0, 700))
def test_a_damaged_image_is_read_or_refused(at: int, byte: int, cut: int) -> None:
    data = bytearray(_IMAGE)
    data[at % len(data)] = byte
    said = ""
    try:
        read_header(bytes(data[: len(data) - cut]), EXPLICIT)
    except RequestError as error:
        said = error.message
    assert "Doe" not in said


_IMAGE = encoded(ct_image(), EXPLICIT)[:900]


def test_a_file_without_preamble_or_transfer_syntax_is_no_dicom_file() -> None:
    for data in (
        b"",
        b"DICM",
        bytes(200),
        bytes(128) + b"DICM",
        bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\x00",
    ):
        with pytest.raises(BadDataset):
            file_meta(data)
    buffer = BytesIO()
    ct_image().save_as(buffer, enforce_file_format=True)
    assert file_meta(buffer.getvalue())[0] == EXPLICIT

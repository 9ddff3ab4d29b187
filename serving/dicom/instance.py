"""What is known of an image when it is taken in: identifiers, a few attributes, and where its bytes are.

Patient and study identification stands apart in `patient`, so that nothing that handles or logs the rest ever
sees it.
"""

import re
import struct
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from serving.dicom.header import EXPLICIT_VR_BIG_ENDIAN, Buffer, elements, tag_text
from serving.errors import BadDataset, DatasetMismatch

Source: TypeAlias = Literal["dimse", "stow", "result"]


class ReceivedInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One SOP instance on disk, as receivers hand it over. `path` and `association` carry no patient data."""

    tenant: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    """Of a DICOM file (PS3.10), durable."""
    digest: str
    """Of that file: sha256:<hex>:<size>."""
    size: int
    attributes: dict[str, str]
    """Keyword -> value for routing, completeness and queries; several values joined by a backslash."""
    patient: dict[str, str]
    """Keyword -> value of what identifies patient and study. Never logged."""
    source: Source
    association: str
    """Of the association or STOW-RS request it came by."""


STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = 0x0020000D, 0x0020000E
SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080016, 0x00080018
_SPECIFIC_CHARACTER_SET = 0x00080005
UIDS: Mapping[int, str] = {
    SOP_CLASS_UID: "SOP Class UID",
    SOP_INSTANCE_UID: "SOP Instance UID",
    STUDY_INSTANCE_UID: "Study Instance UID",
    SERIES_INSTANCE_UID: "Series Instance UID",
}
ATTRIBUTES: Mapping[int, str] = {
    0x00080008: "ImageType",
    0x00080020: "StudyDate",
    0x00080021: "SeriesDate",
    0x00080022: "AcquisitionDate",
    0x00080030: "StudyTime",
    0x00080031: "SeriesTime",
    0x00080060: "Modality",
    0x00080070: "Manufacturer",
    0x00081030: "StudyDescription",
    0x0008103E: "SeriesDescription",
    0x00081090: "ManufacturerModelName",
    0x00180015: "BodyPartExamined",
    0x00180022: "ScanOptions",
    0x00180050: "SliceThickness",
    0x00180060: "KVP",
    0x00181030: "ProtocolName",
    0x00181120: "GantryDetectorTilt",
    0x00181210: "ConvolutionKernel",
    0x00185100: "PatientPosition",
    0x00200011: "SeriesNumber",
    0x00200012: "AcquisitionNumber",
    0x00200013: "InstanceNumber",
    0x00200032: "ImagePositionPatient",
    0x00200037: "ImageOrientationPatient",
    0x00200052: "FrameOfReferenceUID",
    0x00280002: "SamplesPerPixel",
    0x00280004: "PhotometricInterpretation",
    0x00280008: "NumberOfFrames",
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280030: "PixelSpacing",
    0x00280100: "BitsAllocated",
    0x00280301: "BurnedInAnnotation",
}
PATIENT: Mapping[int, str] = {
    0x00080050: "AccessionNumber",
    0x00080080: "InstitutionName",
    0x00080090: "ReferringPhysicianName",
    0x00100010: "PatientName",
    0x00100020: "PatientID",
    0x00100030: "PatientBirthDate",
    0x00100040: "PatientSex",
    0x00200010: "StudyID",
}
_NUMBERS = frozenset({0x00280002, 0x00280010, 0x00280011, 0x00280100})
"""Those of them with value representation US."""
_WANTED = frozenset({_SPECIFIC_CHARACTER_SET, *UIDS, *ATTRIBUTES, *PATIENT})
_CODECS: Mapping[str, str] = {
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "iso8859_11",
    "ISO_IR 192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
    "ISO 2022 IR 87": "iso2022_jp_2",
    "ISO 2022 IR 159": "iso2022_jp_2",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 58": "gb2312",
}
"""Specific Character Set (PS3.3 C.12.1.1.2) -> Python codec; latin_1 takes every byte where none is named."""

_SHIFT_TO_G1 = re.compile(r"\x1b\$\)[AC]")
"""The escape sequences that the codecs of Korean and Chinese do not take themselves."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a data set says of itself."""

    uids: dict[int, str]
    attributes: dict[str, str]
    patient: dict[str, str]

    @property
    def sop_class_uid(self) -> str:
        return self.uids[SOP_CLASS_UID]

    @property
    def sop_instance_uid(self) -> str:
        return self.uids[SOP_INSTANCE_UID]


def read_header(data: Buffer, transfer_syntax_uid: str, start: int = 0) -> Header:
    """Read identifiers and attributes of a data set; nothing behind group 0028 is looked at.

    Raises: BadDataset naming the tag, if it cannot be walked or lacks one of the four UIDs;
        TransferSyntaxUnsupported.
    """
    raw = elements(data, transfer_syntax_uid, _WANTED, start)
    codec = _codec(raw.get(_SPECIFIC_CHARACTER_SET, b""))
    order = ">" if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    return Header(
        uids={tag: _uid(raw.get(tag, b""), tag, name) for tag, name in UIDS.items()},
        attributes=_named(raw, ATTRIBUTES, codec, order),
        patient=_named(raw, PATIENT, codec, order),
    )


def received_instance(
    header: Header,
    *,
    tenant: str,
    transfer_syntax_uid: str,
    path: str,
    digest: str,
    size: int,
    source: Source,
    association: str,
) -> ReceivedInstance:
    """A header, and what the receiver knows besides."""
    return ReceivedInstance(
        tenant=tenant,
        study_instance_uid=header.uids[STUDY_INSTANCE_UID],
        series_instance_uid=header.uids[SERIES_INSTANCE_UID],
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        path=path,
        digest=digest,
        size=size,
        attributes=header.attributes,
        patient=header.patient,
        source=source,
        association=association,
    )


def check_agrees(header: Header, *, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Raises: DatasetMismatch if a C-STORE request announced another SOP class or instance (PS3.4 B.2.3)."""
    for tag, announced in ((SOP_CLASS_UID, sop_class_uid), (SOP_INSTANCE_UID, sop_instance_uid)):
        if header.uids[tag] != announced:
            message = f"{UIDS[tag]} {tag_text(tag)} of the data set is not the one of the C-STORE request."
            raise DatasetMismatch(message, tag=tag)


def _uid(raw: bytes, tag: int, name: str) -> str:
    """A UID: digits and dots, at most 64 (PS3.5 9.1). Leading zeros, which devices write, are let pass."""
    uid = raw.decode("latin_1").strip("\0 ")
    if not uid:
        raise BadDataset(f"{name} {tag_text(tag)} is missing.", tag=tag)
    if not is_uid(uid):
        raise BadDataset(f"{name} {tag_text(tag)} is no valid UID.", tag=tag)
    return uid


def is_uid(text: str) -> bool:
    """Whether this can be a UID: what stands in paths and queries is one of these or nothing."""
    return len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text, re.ASCII) is not None


def _named(raw: Mapping[int, bytes], names: Mapping[int, str], codec: str, order: str) -> dict[str, str]:
    return {name: _text(raw[tag], tag, codec, order) for tag, name in names.items() if tag in raw}


def _text(raw: bytes, tag: int, codec: str, order: str) -> str:
    if tag in _NUMBERS:
        return "\\".join(str(n) for (n,) in struct.iter_unpack(order + "H", raw[: len(raw) & ~1]))
    return _SHIFT_TO_G1.sub("", raw.decode(codec, "replace")).strip("\0 ")


def _codec(specific_character_set: bytes) -> str:
    """The codec of the last character set named that we know: the one with escape sequences, if any."""
    named = [term.strip("\0 ") for term in specific_character_set.decode("latin_1").split("\\")]
    return next((_CODECS[term] for term in reversed(named) if term in _CODECS), "latin_1")

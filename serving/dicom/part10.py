"""The beginning of a DICOM file for a data set that came without one (PS3.10 7.1)."""

import struct

IMPLEMENTATION_CLASS_UID = "1.2.826.0.1.3680043.8.498.45787841905388114226127966543249270173"
"""Ours; below the root that pydicom lends for this."""
IMPLEMENTATION_VERSION_NAME = "LIGHTBOX_0"


def file_beginning(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble and File Meta Information; what follows is the data set as it was sent.

    It says nothing of sender or time, so that an image sent twice gives the same bytes twice.
    """
    meta = (
        _element(0x0001, b"OB", b"\x00\x01")
        + _element(0x0002, b"UI", sop_class_uid.encode("ascii"))
        + _element(0x0003, b"UI", sop_instance_uid.encode("ascii"))
        + _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii"))
        + _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"))
        + _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"))
    )
    group_length = _element(0x0000, b"UL", struct.pack("<L", len(meta)))
    return bytes(128) + b"DICM" + group_length + meta


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    """An element of group 0002, explicit VR little endian, padded to an even length."""
    value += (b" " if vr == b"SH" else b"\0") * (len(value) % 2)
    length = struct.pack("<HL", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", 0x0002, element) + vr + length + value

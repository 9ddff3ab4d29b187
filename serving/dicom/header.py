"""The top-level elements of a data set, walked without decoding: the part of parsing that hostile bytes meet.

No recursion (nesting is a counter), no copies of what is not wanted, nothing evaluated; so neither the depth
of a sequence nor a wrong length can cost more than the bytes that were sent. Encoding: PS3.5 7.1 to 7.5.
"""

import struct
import zlib
from collections.abc import Collection
from mmap import mmap
from typing import NamedTuple, TypeAlias

from serving.errors import BadDataset, TransferSyntaxUnsupported

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})
"""Deflated Explicit VR Little Endian and JPIP Referenced Deflate: the data set itself is compressed."""
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

PREAMBLE_BYTES = 132
"""128 free bytes and 'DICM' (PS3.10 7.1)."""
TRANSFER_SYNTAX_UID = 0x00020010
MAX_VALUE_BYTES = 1 << 16
"""Longer values of wanted elements are ignored: none of them is text of that length. A guess."""
MAX_INFLATED_BYTES = 16 << 20
"""A deflated data set is looked into only so far. A guess: no header was ever seen to be that long."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
"""Value representations with a length of 32 bits (PS3.5 7.1.2)."""


class Encoding(NamedTuple):
    """How elements are written, as far as walking them needs it."""

    explicit: bool
    big_endian: bool


def elements(
    data: Buffer, transfer_syntax_uid: str, wanted: Collection[int], start: int = 0
) -> dict[int, bytes]:
    """The raw values of those `wanted` tags that stand at the top level of a data set.

    Args:
        data: a buffer with the data set from byte `start` on.
        wanted: tags, (group << 16) + element; the walk ends behind the largest of them.

    Returns: tag -> value as encoded. A data set that ends early gives what it has.
    Raises: BadDataset if the bytes are no data set in that encoding; TransferSyntaxUnsupported.
    """
    if transfer_syntax_uid in DEFLATED:
        data, start = _inflate(data, start), 0
    encoding = encoding_of(transfer_syntax_uid)
    last = max(wanted)
    found: dict[int, bytes] = {}
    offset, end = start, len(data)
    while offset + 8 <= end:
        tag, vr, length, value = _element_header(data, offset, encoding)
        if tag > last:
            break
        if length == _UNDEFINED:
            offset = _behind_sequence(data, value, _inside(vr, encoding))
            continue
        if tag in wanted and tag not in found and length <= MAX_VALUE_BYTES and value + length <= end:
            found[tag] = bytes(data[value : value + length])
        offset = value + length
    return found


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """Every transfer syntax but two is Explicit VR Little Endian (PS3.5 Annex A)."""
    if transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN:
        return Encoding(explicit=False, big_endian=False)
    if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN:
        return Encoding(explicit=True, big_endian=True)
    if not transfer_syntax_uid.startswith("1.2.840.10008.1.2."):
        raise TransferSyntaxUnsupported("The Transfer Syntax UID (0002,0010) is none of the standard's.")
    return Encoding(explicit=True, big_endian=False)


def file_meta(data: Buffer) -> tuple[str, int]:
    """Transfer Syntax UID and offset of the data set of a DICOM file (PS3.10 7.1).

    Raises: BadDataset if it is no such file or its File Meta Information names no transfer syntax.
    """
    if bytes(data[128:PREAMBLE_BYTES]) != b"DICM":
        raise BadDataset("Not a DICOM file: 'DICM' does not stand at byte 128.")
    offset, transfer_syntax_uid = PREAMBLE_BYTES, ""
    explicit = Encoding(explicit=True, big_endian=False)
    while offset + 8 <= len(data) and bytes(data[offset : offset + 2]) == b"\x02\x00":
        tag, _, length, value = _element_header(data, offset, explicit)
        if tag == TRANSFER_SYNTAX_UID and length <= 64:
            transfer_syntax_uid = bytes(data[value : value + length]).decode("ascii", "replace").strip("\0 ")
        offset = value + length
    if not transfer_syntax_uid:
        message = "The File Meta Information has no Transfer Syntax UID (0002,0010)."
        raise BadDataset(message, tag=TRANSFER_SYNTAX_UID)
    return transfer_syntax_uid, offset


def _element_header(data: Buffer, offset: int, encoding: Encoding) -> tuple[int, bytes, int, int]:
    """Tag, VR (empty where implicit), length and offset of the value of the element at `offset`."""
    if not encoding.explicit:
        group, element, length = struct.unpack_from("<HHL", data, offset)
        return group << 16 | element, b"", length, offset + 8
    order = ">" if encoding.big_endian else "<"
    group, element, vr, length = struct.unpack_from(order + "HH2sH", data, offset)
    tag = group << 16 | element
    if group == 0xFFFE:  # items and delimiters have no VR
        return tag, b"", struct.unpack_from(order + "L", data, offset + 4)[0], offset + 8
    if vr in _LONG_VRS:
        if offset + 12 > len(data):
            return tag, vr, 0, len(data)
        return tag, vr, struct.unpack_from(order + "L", data, offset + 8)[0], offset + 12
    if not (vr.isalpha() and vr.isupper()):
        raise BadDataset(f"The bytes behind {tag_text(tag)} are no value representation.", tag=tag)
    return tag, vr, length, offset + 8


def _behind_sequence(data: Buffer, offset: int, encoding: Encoding) -> int:
    """The offset behind the delimiter that ends the sequence of undefined length which begins at `offset`."""
    open_sequences, end = [encoding], len(data)
    while open_sequences:
        if offset + 8 > end:
            return end
        tag, vr, length, value = _element_header(data, offset, open_sequences[-1])
        if tag == _SEQUENCE_END:
            open_sequences.pop()
        if length != _UNDEFINED:
            offset = value + length
            continue
        if tag != _ITEM:
            open_sequences.append(_inside(vr, open_sequences[-1]))
        offset = value
    return offset


def _inside(vr: bytes, encoding: Encoding) -> Encoding:
    """How items are written: a UN of undefined length holds implicit VR (PS3.5 6.2.2 note 4)."""
    return Encoding(explicit=False, big_endian=False) if vr == b"UN" else encoding


def _inflate(data: Buffer, start: int) -> bytes:
    """The beginning of a deflated data set (PS3.5 A.5: raw deflate, no zlib header)."""
    beginning = data[start : start + MAX_INFLATED_BYTES]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(beginning, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise BadDataset("The data set is not deflated, though its transfer syntax says so.") from error


def tag_text(tag: int) -> str:
    """A tag as DICOM writes it: (0020,000D)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"

"""The two command sets that every image costs, read and written directly (PS3.7 6.3, 9.3.1, Annex E).

Command sets are always Implicit VR Little Endian, group 0000. pynetdicom's way over data sets takes 1 ms for
the pair, a third of an image's whole time; all other messages stay its business.
"""

import struct
from dataclasses import dataclass

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
_GROUP_LENGTH, _AFFECTED_SOP_CLASS_UID, _COMMAND_FIELD = 0x0000, 0x0002, 0x0100
_MESSAGE_ID, _MESSAGE_ID_RESPONDED_TO, _DATA_SET_TYPE, _STATUS = 0x0110, 0x0120, 0x0800, 0x0900
_OFFENDING_ELEMENT, _ERROR_COMMENT, _AFFECTED_SOP_INSTANCE_UID = 0x0901, 0x0902, 0x1000


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """What a C-STORE-RQ says (PS3.7 table 9.3-1)."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


def store_command(encoded: bytes) -> StoreCommand | None:
    """Read a command set if it is a C-STORE-RQ. Raises: ValueError if it is one and lacks what it needs."""
    values = _elements(encoded)
    if _number(values.get(_COMMAND_FIELD, b"")) != C_STORE_RQ:
        return None
    command = StoreCommand(
        message_id=_number(values.get(_MESSAGE_ID, b"")),
        sop_class_uid=values.get(_AFFECTED_SOP_CLASS_UID, b"").rstrip(b"\0 ").decode("ascii"),
        sop_instance_uid=values.get(_AFFECTED_SOP_INSTANCE_UID, b"").rstrip(b"\0 ").decode("ascii"),
        has_data_set=_number(values.get(_DATA_SET_TYPE, b"")) != _NO_DATA_SET,
    )
    if command.message_id < 0 or not command.sop_class_uid or not command.sop_instance_uid:
        raise ValueError("a C-STORE-RQ without Message ID or SOP UIDs")
    return command


def store_response(
    command: StoreCommand, *, status: int, error_comment: str = "", offending_element: int | None = None
) -> bytes:
    """Write the C-STORE-RSP (PS3.7 table 9.3-2). The comment is cut to the 64 characters of VR LO."""
    elements = [
        _element(_AFFECTED_SOP_CLASS_UID, _even(command.sop_class_uid, b"\0")),
        _element(_COMMAND_FIELD, struct.pack("<H", C_STORE_RSP)),
        _element(_MESSAGE_ID_RESPONDED_TO, struct.pack("<H", command.message_id)),
        _element(_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
        _element(_STATUS, struct.pack("<H", status)),
    ]
    if offending_element is not None:
        tag = struct.pack("<HH", offending_element >> 16, offending_element & 0xFFFF)
        elements.append(_element(_OFFENDING_ELEMENT, tag))
    if error_comment:
        elements.append(_element(_ERROR_COMMENT, _even(error_comment[:64], b" ")))
    elements.append(_element(_AFFECTED_SOP_INSTANCE_UID, _even(command.sop_instance_uid, b"\0")))
    body = b"".join(elements)
    return _element(_GROUP_LENGTH, struct.pack("<L", len(body))) + body


def _elements(encoded: bytes) -> dict[int, bytes]:
    values, offset = {}, 0
    while offset + 8 <= len(encoded):
        group, element, length = struct.unpack_from("<HHL", encoded, offset)
        if group == 0:
            values[element] = encoded[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return values


def _number(value: bytes) -> int:
    """A US; -1 if there is none."""
    return int.from_bytes(value, "little") if len(value) == 2 else -1


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, element, len(value)) + value


def _even(text: str, padding: bytes) -> bytes:
    encoded = text.encode("ascii", "replace")
    return encoded + padding * (len(encoded) % 2)

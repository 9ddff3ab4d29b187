"""The Accept header of DICOMweb requests: media ranges with their DICOM parameters (PS3.18 8.7)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One alternative that a client takes."""

    name: str
    """Lower case, such as multipart/related or */*."""
    part_type: str
    """The type parameter: what the parts shall be. Empty: not said."""
    transfer_syntax: str
    """Empty or *: whatever is stored."""
    quality: float

    def matches(self, media_type: str) -> bool:
        """Whether this range takes that type."""
        kind, _, sub = self.name.partition("/")
        own_kind, _, own_sub = media_type.partition("/")
        return kind in ("*", own_kind) and sub in ("*", own_sub)

    def allows_syntax(self, transfer_syntax_uid: str) -> bool:
        """Whether an object in this transfer syntax may be given."""
        return self.transfer_syntax in ("", "*", transfer_syntax_uid)


def accepted(header: str) -> list[MediaRange]:
    """The alternatives of an Accept header, the liked best first; an empty header takes anything."""
    ranges = [_range(part) for part in _split(header or "*/*", ",")]
    return sorted((r for r in ranges if r.name and r.quality > 0), key=lambda r: -r.quality)


def _range(text: str) -> MediaRange:
    name, *parameters = (part.strip() for part in _split(text, ";"))
    values = {}
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        values[key.strip().lower()] = value.strip().strip('"')
    try:
        quality = float(values.get("q", "1"))
    except ValueError:
        quality = 0.0
    return MediaRange(
        name.lower(), values.get("type", "").lower(), values.get("transfer-syntax", ""), quality
    )


def _split(text: str, separator: str) -> list[str]:
    """Split where the separator is not inside quotes."""
    parts, quoted, current = [], False, ""
    for character in text:
        quoted ^= character == '"'
        if character == separator and not quoted:
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current]

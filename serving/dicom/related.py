"""multipart/related, taken apart as it streams in (RFC 2387; PS3.18 8.6.1.2). Any media type of the parts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from serving.errors import BadRequest, MediaTypeUnsupported

_MAX_HEADER_BYTES = 4096
"""Of one part. A guess: real ones have one or two short header lines."""


class Part(Protocol):
    """Takes one part's body."""

    def write(self, data: bytes) -> None:
        """The next bytes. Must not raise for what is wrong with this part alone."""

    def end(self) -> None:
        """There are no more."""


@dataclass(frozen=True, slots=True)
class RelatedType:
    """What a Content-Type header of multipart/related says."""

    media_type: str
    """Of the parts: its `type` parameter, lower case; empty where it has none."""
    boundary: bytes


def related_type(content_type: str) -> RelatedType:
    """Read a Content-Type header. Raises: MediaTypeUnsupported, BadRequest if it has no boundary."""
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/related":
        raise MediaTypeUnsupported('The body must be multipart/related; type="application/dicom".')
    boundary = options.get(b"boundary", b"")
    if not boundary or len(boundary) > 70:  # RFC 2046 5.1.1
        raise BadRequest("The Content-Type header has no boundary, or one of more than 70 characters.")
    return RelatedType(options.get(b"type", b"").decode("latin_1").lower(), boundary)


class RelatedParser:
    """Feeds the parts of a body to what `begin` gives for each; `begin` gets the part's media type."""

    def __init__(self, boundary: bytes, begin: Callable[[str], Part]) -> None:
        from python_multipart.multipart import MultipartParser

        self._begin = begin
        self._part: Part | None = None
        self._field = bytearray()
        self._value = bytearray()
        self._media_type = ""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._ends,
            },
            max_header_size=_MAX_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises: BadRequest if they are no multipart."""
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequest("The body is not the multipart/related that its header says.") from error

    def close(self) -> None:
        """There is no more. Raises: BadRequest if the last boundary is missing."""
        if not self._ended:
            raise BadRequest("The body ends before its last boundary.")

    def _part_begins(self) -> None:
        self._media_type = ""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._field.lower() == b"content-type":
            self._media_type = self._value.partition(b";")[0].strip().lower().decode("latin_1")
        self._field.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        self._part = self._begin(self._media_type)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.write(data if end - start == len(data) else data[start:end])

    def _part_ends(self) -> None:
        if self._part is not None:
            self._part.end()
            self._part = None

    def _ends(self) -> None:
        self._ended = True

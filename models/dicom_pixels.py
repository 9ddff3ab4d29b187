"""Stored pixel values of one image, whatever its transfer syntax and pixel representation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import dicom_header as tags
from models.dicom_header import Header

Stored = NDArray[Any]
"""int or uint of 8, 16 or 32 bits [rows, columns]."""

NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"})
"""Implicit, Explicit and Deflated Explicit VR Little Endian: the pixels are there to be viewed."""

FASTEST: Mapping[str, tuple[str, ...]] = {
    "1.2.840.10008.1.2.5": ("pylibjpeg", "pydicom"),
    "1.2.840.10008.1.2.4.50": ("gdcm", "pillow"),
    "1.2.840.10008.1.2.4.51": ("gdcm", "pillow"),
    "1.2.840.10008.1.2.4.57": ("gdcm",),
    "1.2.840.10008.1.2.4.70": ("gdcm",),
    "1.2.840.10008.1.2.4.80": ("pyjpegls", "gdcm"),
    "1.2.840.10008.1.2.4.81": ("pyjpegls", "gdcm"),
    "1.2.840.10008.1.2.4.90": ("gdcm", "pylibjpeg", "pillow"),
    "1.2.840.10008.1.2.4.91": ("gdcm", "pylibjpeg", "pillow"),
    "1.2.840.10008.1.2.4.201": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.202": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.203": ("pylibjpeg",),
}
"""Decoder plug-ins of pydicom by transfer syntax, the fastest measured first; the next ones if it fails."""


def stored_pixels(header: Header) -> Stored:
    """The stored values of a single grey frame, restricted to Bits Stored and sign-extended (PS3.5 8.1.1).

    Raises: InputRefused, "no-pixel-data" or "undecodable".
    """
    rows, columns, allocated = (
        _positive(header, tag) for tag in (tags.ROWS, tags.COLUMNS, tags.BITS_ALLOCATED)
    )
    if allocated not in (8, 16, 32):
        raise header.refusal("undecodable", f"{tags.BITS_ALLOCATED} is {allocated}; must be 8, 16 or 32")
    if tags.PIXEL_DATA not in header:
        raise header.refusal("no-pixel-data", f"{tags.PIXEL_DATA} is missing")
    syntax = header.transfer_syntax_uid()
    if syntax in NATIVE:
        pixels = _native(header, rows, columns, allocated)
    else:
        pixels = _decoded(header, syntax)
        if pixels.shape != (rows, columns):
            raise header.refusal("undecodable", f"{tags.PIXEL_DATA} does not hold {rows} x {columns} pixels")
    return _within_bits_stored(pixels, header, allocated)


def is_signed(header: Header) -> bool:
    """Whether stored values are two's complement."""
    return header.integer(tags.PIXEL_REPRESENTATION) == 1


def _native(header: Header, rows: int, columns: int, allocated: int) -> Stored:
    data = header.raw(tags.PIXEL_DATA)
    needed = rows * columns * allocated // 8
    if len(data) < needed:
        raise header.refusal(
            "undecodable", f"{tags.PIXEL_DATA} has {len(data)} bytes; {rows} x {columns} pixels are {needed}"
        )
    dtype = np.dtype(f"<{'i' if is_signed(header) else 'u'}{allocated // 8}")
    return np.frombuffer(data, dtype, count=rows * columns).reshape(rows, columns)


def _decoded(header: Header, syntax: str) -> Stored:
    """By pydicom's plug-ins: compressed and big endian."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError:
        raise header.refusal("undecodable", f"no decoder for transfer syntax {syntax}") from None
    failure: Exception | None = None
    for plugin in FASTEST.get(syntax, ("",)):
        try:
            pixels, _ = decoder.as_array(header.dataset, raw=True, decoding_plugin=plugin)
            return pixels
        except Exception as error:  # foreign decoders on foreign bytes: anything
            failure = error
    raise header.refusal(
        "undecodable", f"{tags.PIXEL_DATA} does not decode as transfer syntax {syntax}"
    ) from failure


def _within_bits_stored(pixels: Stored, header: Header, allocated: int) -> Stored:
    """Without the bits above High Bit (overlays of old, missing sign extension) and below the lowest."""
    stored = header.integer(tags.BITS_STORED) or allocated
    if stored >= allocated:
        return pixels
    high_bit = header.integer(tags.HIGH_BIT)
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return (pixels << (allocated - 1 - high_bit)) >> (allocated - stored)


def _positive(header: Header, tag: tags.Tag) -> int:
    value = header.integer(tag)
    if not value:
        raise header.refusal("undecodable", f"{tag} is missing or 0")
    return value

"""Decode images: from stored DICOM files to real-world values (for CT, Hounsfield units) and their places."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models import dicom_header as tags
from models.dicom_header import Header, quiet, read_header
from models.dicom_pixels import Stored, is_signed, stored_pixels
from models.errors import KernelError, PipelineError
from models.messages import code_in_message
from models.operators.base import Granularity, KernelContext, Operator
from models.values import HU, ONE, DecodedImage, Images, Kind, Series, Value, ValueType

AIR_HU = -1024.0
"""What pixels outside the field of view become: what reconstructions without padding write there."""

COSINE_TOLERANCE = 1e-3
"""How far direction cosines may be from unit length and right angles. A guess; decimal strings give 1e-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeImages(Operator):
    """Series, or a part of one -> Images in the order of the Series.

    Stored values go through the Modality LUT (rescale or table, PS3.3 C.11.1). Photometric Interpretation
    says how values are shown, not what they are: MONOCHROME1 and 2 are treated alike. Pixels of a declared
    Pixel Padding Value (or range) that would lie below -1024 HU become -1024 HU; a padding value that is also
    a possible density cannot be told from tissue and stays. The pixels of a part are views of one array where
    the images are of one size.

    unit: "HU" takes only CT in Hounsfield units, "1" takes every grey image as it is, without a unit.
    """

    name: ClassVar[str] = "decode"
    granularity: ClassVar[Granularity] = Granularity.IMAGE
    imports: ClassVar[tuple[str, ...]] = ("pydicom.pixels.decoders.base",)
    holds_gil: ClassVar[bool] = True
    unit: Literal["HU", "1"] = "HU"

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        if len(inputs) != 1 or inputs[0].kind is not Kind.SERIES:
            raise PipelineError("takes 1 input, a series", key="of")
        return ValueType(kind=Kind.IMAGES, unit=self._ucum())

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        (series,) = inputs
        if not isinstance(series, Series):
            raise KernelError(f"got a {type(series).__name__} where a Series belongs")
        with quiet():
            return Images(tuple(self._decoded(series)))

    def _decoded(self, series: Series) -> Iterator[DecodedImage]:
        together: NDArray[np.float32] | None = None
        for index, reference in enumerate(series.images):
            number = series.offset + index
            header = read_header(reference.path, pixels=True, where=f"image {number + 1} of the series")
            _check_kind(header)
            if self.unit == "HU":
                _check_hounsfield(header)
            stored = stored_pixels(header)
            if together is None:
                together = np.empty((len(series.images), *stored.shape), np.float32)
            same = stored.shape == together.shape[1:]
            pixels = together[index] if same else np.empty(stored.shape, np.float32)
            to_real_world(stored, header, out=pixels, hounsfield=self.unit == "HU")
            yield decoded_image(number, pixels, self._ucum(), header)

    def _ucum(self) -> str:
        return HU if self.unit == "HU" else ONE


def to_real_world(stored: Stored, header: Header, *, out: NDArray[np.float32], hounsfield: bool) -> None:
    """Apply the Modality LUT to stored values [rows, columns] into `out`, float32 of the same shape."""
    if tags.MODALITY_LUT_SEQUENCE in header:
        out[...] = _looked_up(stored, header)
        return
    slope, intercept = _rescale(header)
    wide = np.float64 if stored.dtype.itemsize > 2 else np.float32  # float32 holds every 16-bit integer
    if slope == 1:
        np.add(stored, wide(intercept), out=out, dtype=wide, casting="same_kind")
    else:
        np.multiply(stored, wide(slope), out=out, dtype=wide, casting="same_kind")
        out += np.float32(intercept)
    if hounsfield:
        _pad_with_air(stored, header, slope, intercept, out)


def decoded_image(number: int, pixels: NDArray[np.float32], unit: str, header: Header) -> DecodedImage:
    """The image with its place. Raises: InputRefused, "geometry-missing" or "spacing-missing"."""
    x, y, z = _numbers(header, tags.IMAGE_POSITION_PATIENT, 3, "geometry-missing")
    a, b, c, d, e, f = _numbers(header, tags.IMAGE_ORIENTATION_PATIENT, 6, "geometry-missing")
    row_mm, column_mm = _numbers(header, tags.PIXEL_SPACING, 2, "spacing-missing")
    if min(row_mm, column_mm) <= 0:
        raise header.refusal("spacing-missing", f"{tags.PIXEL_SPACING} must be above 0")
    off = max(abs(a * a + b * b + c * c - 1), abs(d * d + e * e + f * f - 1), abs(a * d + b * e + c * f))
    if off > 2 * COSINE_TOLERANCE:
        raise header.refusal(
            "geometry-missing", f"{tags.IMAGE_ORIENTATION_PATIENT} is not two unit vectors at a right angle"
        )
    return DecodedImage(
        image_index=number,
        pixels=pixels,
        unit=unit,
        image_position_patient=(x, y, z),
        image_orientation_patient=(a, b, c, d, e, f),
        pixel_spacing=(row_mm, column_mm),
        frame_of_reference_uid=header.text(tags.FRAME_OF_REFERENCE_UID),
    )


def _check_kind(header: Header) -> None:
    """Only single grey frames are decoded. Raises: InputRefused naming what it is instead."""
    if tags.ROWS not in header or tags.COLUMNS not in header:
        modality = _code(header, tags.MODALITY)
        raise header.refusal("not-an-image", f"has no {tags.ROWS} ({tags.MODALITY} is {modality})")
    frames = header.number(tags.NUMBER_OF_FRAMES)
    if frames is not None and frames != 1:
        raise header.refusal("multi-frame", f"{tags.NUMBER_OF_FRAMES} is {frames:g}; must be 1 or absent")
    if tags.PIXEL_DATA not in header:
        raise header.refusal("no-pixel-data", f"{tags.PIXEL_DATA} is missing")
    samples = header.integer(tags.SAMPLES_PER_PIXEL)
    if samples is not None and samples > 1:
        raise header.refusal("colour-image", f"{tags.SAMPLES_PER_PIXEL} is {samples}; must be 1")
    photometric = _code(header, tags.PHOTOMETRIC_INTERPRETATION)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise header.refusal(
            "colour-image",
            f"{tags.PHOTOMETRIC_INTERPRETATION} is {photometric}; must be MONOCHROME1 or MONOCHROME2",
        )


def _check_hounsfield(header: Header) -> None:
    """Raises: InputRefused "not-ct" unless the real-world values are Hounsfield units (PS3.3 C.11.1.1.2)."""
    modality = _code(header, tags.MODALITY)
    if modality != "CT":
        raise header.refusal("not-ct", f"{tags.MODALITY} is {modality}; only CT has Hounsfield units")
    if tags.MODALITY_LUT_SEQUENCE in header:
        item = _lut_item(header)
        tag, kind = tags.MODALITY_LUT_TYPE, _code(item, tags.MODALITY_LUT_TYPE)
    else:
        if tags.RESCALE_INTERCEPT not in header:
            raise header.refusal("not-ct", f"{tags.RESCALE_INTERCEPT} is missing")
        tag, kind = tags.RESCALE_TYPE, _code(header, tags.RESCALE_TYPE, "HU")
    if kind != "HU":
        raise header.refusal("not-ct", f"{tag} is {kind}; must be HU")


def _rescale(header: Header) -> tuple[float, float]:
    slope, intercept = header.number(tags.RESCALE_SLOPE), header.number(tags.RESCALE_INTERCEPT)
    if slope is not None and (slope == 0 or not np.isfinite(slope)):
        raise header.refusal("undecodable", f"{tags.RESCALE_SLOPE} is {slope:g}; must not be")
    return 1.0 if slope is None else slope, intercept or 0.0


def _pad_with_air(
    stored: Stored, header: Header, slope: float, intercept: float, out: NDArray[np.float32]
) -> None:
    """Set padding that lies below air to air: see DecodeImages."""
    value = header.integer(tags.PIXEL_PADDING_VALUE, signed=is_signed(header))
    if value is None:
        return
    limit = header.integer(tags.PIXEL_PADDING_RANGE_LIMIT, signed=is_signed(header))
    low, high = sorted((value, value if limit is None else limit))
    if max(low * slope, high * slope) + intercept >= AIR_HU:
        return
    padding = stored == low if low == high else (stored >= low) & (stored <= high)
    np.copyto(out, np.float32(AIR_HU), where=padding)


def _looked_up(stored: Stored, header: Header) -> NDArray[np.float32]:
    """Through the Modality LUT Sequence (PS3.3 C.11.1.1): values beyond its ends take those of the ends."""
    item = _lut_item(header)
    little_endian = header.dataset.original_encoding[1]
    words = np.frombuffer(item.raw(tags.LUT_DESCRIPTOR), "<u2" if little_endian else ">u2")
    if len(words) != 3:
        raise header.refusal("undecodable", f"{tags.LUT_DESCRIPTOR} has {len(words)} values; must have 3")
    entries = int(words[0]) or 65536
    first = int(words[1].astype(np.int16)) if is_signed(header) else int(words[1])
    data = item.raw(tags.LUT_DATA)
    bytewise = len(data) < 2 * entries  # 8-bit entries, packed (PS3.3 C.11.1.1.1)
    table = np.frombuffer(data, "u1" if bytewise else "<u2" if little_endian else ">u2")
    if len(table) < entries:
        raise header.refusal("undecodable", f"{tags.LUT_DATA} has {len(table)} entries; must have {entries}")
    return table[:entries].astype(np.float32)[np.clip(stored.astype(np.int64) - first, 0, entries - 1)]


def _lut_item(header: Header) -> Header:
    items = header.dataset[tags.MODALITY_LUT_SEQUENCE.number].value
    if not items:
        raise header.refusal("undecodable", f"{tags.MODALITY_LUT_SEQUENCE} is empty")
    return Header(items[0], header.where)


def _numbers(header: Header, tag: tags.Tag, count: int, reason: str) -> tuple[float, ...]:
    numbers = header.numbers(tag)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise header.refusal(reason, f"{tag} has {len(numbers)} values; must have {count}")
    return numbers


def _code(header: Header, tag: tags.Tag, default: str = "empty") -> str:
    return code_in_message(header.text(tag), default)

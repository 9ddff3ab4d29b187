"""The header of one DICOM image as plain Python values, read past pydicom's slow and wordy conversions.

Nothing of a data set is logged or put into a message, except numbers and words of the standard.
"""

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.errors import InputRefused

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset


@dataclass(frozen=True, slots=True)
class Tag:
    """An element of the dictionary (PS3.6); as text, "Rows (0028,0010)"."""

    number: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.number >> 16:04X},{self.number & 0xFFFF:04X})"


SOP_CLASS_UID = Tag(0x00080016, "SOP Class UID")
MODALITY = Tag(0x00080060, "Modality")
SLICE_THICKNESS = Tag(0x00180050, "Slice Thickness")
STUDY_INSTANCE_UID = Tag(0x0020000D, "Study Instance UID")
SERIES_INSTANCE_UID = Tag(0x0020000E, "Series Instance UID")
SERIES_NUMBER = Tag(0x00200011, "Series Number")
IMAGE_POSITION_PATIENT = Tag(0x00200032, "Image Position (Patient)")
IMAGE_ORIENTATION_PATIENT = Tag(0x00200037, "Image Orientation (Patient)")
FRAME_OF_REFERENCE_UID = Tag(0x00200052, "Frame of Reference UID")
SAMPLES_PER_PIXEL = Tag(0x00280002, "Samples per Pixel")
PHOTOMETRIC_INTERPRETATION = Tag(0x00280004, "Photometric Interpretation")
NUMBER_OF_FRAMES = Tag(0x00280008, "Number of Frames")
ROWS = Tag(0x00280010, "Rows")
COLUMNS = Tag(0x00280011, "Columns")
PIXEL_SPACING = Tag(0x00280030, "Pixel Spacing")
BITS_ALLOCATED = Tag(0x00280100, "Bits Allocated")
BITS_STORED = Tag(0x00280101, "Bits Stored")
HIGH_BIT = Tag(0x00280102, "High Bit")
PIXEL_REPRESENTATION = Tag(0x00280103, "Pixel Representation")
PIXEL_PADDING_VALUE = Tag(0x00280120, "Pixel Padding Value")
PIXEL_PADDING_RANGE_LIMIT = Tag(0x00280121, "Pixel Padding Range Limit")
RESCALE_INTERCEPT = Tag(0x00281052, "Rescale Intercept")
RESCALE_SLOPE = Tag(0x00281053, "Rescale Slope")
RESCALE_TYPE = Tag(0x00281054, "Rescale Type")
MODALITY_LUT_SEQUENCE = Tag(0x00283000, "Modality LUT Sequence")
LUT_DESCRIPTOR = Tag(0x00283002, "LUT Descriptor")
MODALITY_LUT_TYPE = Tag(0x00283004, "Modality LUT Type")
LUT_DATA = Tag(0x00283006, "LUT Data")
PIXEL_DATA = Tag(0x7FE00010, "Pixel Data")


class Header:
    """The top-level elements of one data set.

    `dataset` is what was read, for pydicom and highdicom; `where` begins a sentence about it ("image 3").
    """

    __slots__ = ("dataset", "where")

    def __init__(self, dataset: "FileDataset", where: str = "the image") -> None:
        self.dataset = dataset
        self.where = where

    def __contains__(self, tag: Tag) -> bool:
        return tag.number in self.dataset

    def raw(self, tag: Tag) -> bytes:
        """The value as it is in the file; empty where the element is absent, empty or a sequence."""
        value, _ = self._value(tag)
        return value if isinstance(value, bytes) else b""

    def text(self, tag: Tag) -> str:
        """A UID or code string (ASCII); empty where absent."""
        value, _ = self._value(tag)
        if isinstance(value, bytes):
            return value.decode("ascii", "replace").strip(" \0")
        return "" if value is None else str(value).strip(" \0")

    def numbers(self, tag: Tag) -> tuple[float, ...]:
        """Values of a decimal or integer string; () where absent. Raises: InputRefused if they are none."""
        text = self.text(tag)
        if text.startswith("["):  # pydicom has already made a list of it
            text = text[1:-1].replace(", ", "\\").replace("'", "")
        try:
            return tuple(float(part) for part in text.split("\\")) if text else ()
        except ValueError:
            raise self.refusal("undecodable", f"{tag} is not a number") from None

    def number(self, tag: Tag) -> float | None:
        """The first of the numbers; None where absent."""
        numbers = self.numbers(tag)
        return numbers[0] if numbers else None

    def integer(self, tag: Tag, *, signed: bool = False) -> int | None:
        """A 16-bit binary value (VR US or SS); None where absent."""
        value, little_endian = self._value(tag)
        if isinstance(value, bytes):
            if len(value) < 2:
                return None
            (number,) = struct.unpack_from(("<" if little_endian else ">") + ("h" if signed else "H"), value)
            return int(number)
        return int(value) if isinstance(value, int) else None

    def transfer_syntax_uid(self) -> str:
        """That of the file; where File Meta Information does not tell, the one it was read with."""
        meta = getattr(self.dataset, "file_meta", None)
        if meta is not None and (uid := str(meta.get("TransferSyntaxUID") or "")):
            return uid
        implicit, little_endian = self.dataset.original_encoding
        if not little_endian:
            return "1.2.840.10008.1.2.2"
        return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"

    def refusal(self, reason: str, sentence: str) -> InputRefused:
        """An InputRefused about this image."""
        return InputRefused(reason, f"{self.where}: {sentence}")

    def _value(self, tag: Tag) -> tuple[Any, bool]:
        """The value and whether it is little endian: bytes unless pydicom has converted it meanwhile."""
        if tag.number not in self.dataset:
            return None, True
        element = self.dataset.get_item(tag.number)
        return element.value, bool(getattr(element, "is_little_endian", True))


def read_header(path: str, *, pixels: bool = False, where: str = "the image") -> Header:
    """Read a DICOM file, with or without preamble and File Meta Information.

    Args:
        pixels: also keep what follows the header, Pixel Data included.
        where: what messages call the file.

    Raises: InputRefused ("undecodable") if it cannot be parsed; OSError if it cannot be read.
    """
    from pydicom import dcmread

    unreadable = InputRefused("undecodable", f"{where}: the file is no DICOM data set, or is cut short")
    try:
        with quiet():
            dataset = dcmread(path, force=True, stop_before_pixels=not pixels)
    except OSError:
        raise
    except Exception:  # pydicom on hostile bytes raises nearly anything, and may quote them
        raise unreadable from None
    if not len(dataset):  # what pydicom gives for a value that is cut short
        raise unreadable
    return Header(dataset, where)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom and highdicom from warning and logging, which would quote values of patients.

    Switches global settings of theirs, so it belongs around one call in a thread that owns its process; where
    threads overlap the worst is a warning kept back for longer.
    """
    from pydicom.config import disable_value_validation

    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    if loggers[0].level > logging.CRITICAL:  # within another `quiet`
        yield
        return
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

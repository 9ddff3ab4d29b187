"""What a result object takes from its source images: who and what it belongs to, and where it lies."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models import dicom_header as tags
from models.dicom_header import Header, read_header
from models.dicom_uids import derived_uid
from models.errors import InputRefused, KernelError
from models.values import Series, SourcePlanes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

REQUIRED_EMPTY = (
    *(0x00080020, 0x00080030, 0x00080050, 0x00080090, 0x00200010),
    *(0x00100010, 0x00100020, 0x00100030, 0x00100040),
)
"""Patient and General Study attributes of type 2: present in every object, empty where unknown."""

COPIED = (
    *(0x00080005, 0x00080201),  # Specific Character Set, Timezone Offset From UTC
    *(0x00080020, 0x00080030, 0x00080050, 0x00080090, 0x00081030, 0x0020000D, 0x00200010),  # General Study
    *(0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040),  # Patient
    *(0x00120062, 0x00120063, 0x00120064),  # Patient: how it was de-identified
    *(0x00101010, 0x00101020, 0x00101030),  # Patient Study: age, size, weight
    *(0x00120010, 0x00120020, 0x00120021, 0x00120030, 0x00120031, 0x00120040, 0x00120042),  # Clinical Trial
    *(0x00120050, 0x00120051),
    0x00201040,  # Frame of Reference: Position Reference Indicator
)
"""Elements that a result has in common with its source (PS3.3 C.7.1 to C.7.4), as they are there."""

LOSSY = (0x00282110, 0x00282112, 0x00282114)
"""Lossy Image Compression, its ratio and method: what is derived from lossy pixels says so (C.7.6.1.1.5)."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The source images of a result, in stacking order, as skeletons without patient data."""

    first: Header
    """The header of the first image, complete but for the pixels."""
    images: tuple["Dataset", ...]


def read_source(series: Series, planes: SourcePlanes) -> Source:
    """Read the headers behind `planes`. All images get the Frame of Reference UID of the first.

    Raises: InputRefused "uid-missing"; KernelError if `planes` are not of this series; OSError.
    """
    from pydicom.valuerep import DSfloat

    if max(planes.image_index) >= len(series.images):
        raise KernelError("the label map's source planes are not of this series")
    references = [series.images[index] for index in planes.image_index]
    first = read_header(references[0].path, where=f"image {planes.image_index[0] + 1} of the series")
    study, series_uid = (_uid(first, tag) for tag in (tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID))
    frame = first.text(tags.FRAME_OF_REFERENCE_UID) or derived_uid("frame-of-reference", series_uid)

    def strings(values: Sequence[float]) -> list[DSfloat]:
        return [DSfloat(float(value), auto_format=True) for value in values]

    shared = _dataset(
        StudyInstanceUID=study,
        SeriesInstanceUID=series_uid,
        FrameOfReferenceUID=frame,
        Modality=first.text(tags.MODALITY),
        Rows=planes.rows,
        Columns=planes.columns,
        PixelSpacing=strings(planes.pixel_spacing),
        ImageOrientationPatient=strings(planes.image_orientation_patient),
        SliceThickness=_thickness(first),
        **dict.fromkeys(_ASKED_FOR),
    )
    images = []
    for reference, position in zip(references, planes.positions_mm, strict=True):
        image = _dataset(
            SOPInstanceUID=reference.sop_instance_uid,
            SOPClassUID=sop_class_uid(reference.path),
            ImagePositionPatient=strings(position),
        )
        image.update(shared)
        images.append(image)
    return Source(first, tuple(images))


def copy_to(result: "Dataset", source: Header) -> None:
    """Give `result` the patient, study and compression history of its source."""
    lossy = source.text(tags.Tag(LOSSY[0], "Lossy Image Compression")) == "01"
    for tag in (*COPIED, *(LOSSY if lossy else ())):
        if tag in source.dataset:
            with suppress(Exception):  # a value pydicom cannot read: the result does without
                if not (element := source.dataset[tag]).is_empty:
                    result[tag] = element
    for tag in REQUIRED_EMPTY:
        if tag not in result:
            result.add_new(tag, _vr(tag), None)


def sop_class_uid(path: str) -> str:
    """SOP Class UID of a stored file, from its File Meta Information (PS3.10 7.1) or else its data set."""
    from pydicom.filereader import read_file_meta_info

    with suppress(ValueError, KeyError, EOFError, AttributeError):  # no File Meta Information
        if uid := str(read_file_meta_info(path).get("MediaStorageSOPClassUID") or ""):
            return uid
    return read_header(path).text(tags.SOP_CLASS_UID)


_ASKED_FOR = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "PositionReferenceIndicator"),
)
"""What highdicom wants of a source image but may log, so it shall not see it: `copy_to` adds it later."""


def _dataset(**elements: object) -> "Dataset":
    from pydicom.dataset import Dataset

    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _uid(header: Header, tag: tags.Tag) -> str:
    uid = header.text(tag)
    if not uid:
        raise header.refusal("uid-missing", f"{tag} is empty")
    return uid


def _thickness(header: Header) -> float | None:
    try:
        return header.number(tags.SLICE_THICKNESS)
    except InputRefused:  # not a number: of no use, and of no importance
        return None


def _vr(tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(tag)

"""From stored instances to what a contract judges and a job works on. Headers only, no pixels."""

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise

from models.contract import SeriesFacts
from models.values import ImageReference, Series
from serving.jobs.instances import InstanceRow


def facts_of(images: Sequence[InstanceRow]) -> SeriesFacts:
    """What the headers tell of the series these images form. Unknown or unreadable values are None."""
    first = images[0].attributes
    return SeriesFacts(
        modality=first.get("Modality", ""),
        images=len(images),
        rows=max((_integer(image.attributes.get("Rows")) or 0 for image in images), default=0) or None,
        columns=max((_integer(image.attributes.get("Columns")) or 0 for image in images), default=0) or None,
        slice_spacing_mm=_slice_spacing_mm(images),
        pixel_spacing_mm=_pair(first.get("PixelSpacing")),
    )


def voxels_of(images: Sequence[InstanceRow]) -> int:
    """All pixels of all images: what costs are predicted from."""
    return sum(
        (_integer(image.attributes.get("Rows")) or 0) * (_integer(image.attributes.get("Columns")) or 0)
        for image in images
    )


def litres_of(images: Sequence[InstanceRow]) -> float | None:
    """The space these voxels fill, predicted from likewise; None where headers do not tell."""
    facts = facts_of(images)
    if facts.slice_spacing_mm is None or facts.pixel_spacing_mm is None:
        return None
    return voxels_of(images) * facts.slice_spacing_mm * math.prod(facts.pixel_spacing_mm) * 1e-6


def series_of(images: Sequence[InstanceRow]) -> Series:
    """The value that `decode` takes: the images in ascending order of SOP Instance UID."""
    ordered = sorted(images, key=lambda image: image.sop_instance_uid)
    return Series(tuple(ImageReference(i.path, i.digest, i.sop_instance_uid) for i in ordered))


def input_digest(series: Series) -> str:
    """The identity of an input: the digests of its images in order."""
    digests = "\n".join(image.digest for image in series.images)
    return "sha256:" + hashlib.sha256(digests.encode()).hexdigest()


def mixture_of(images: Sequence[InstanceRow]) -> tuple[str, str] | None:
    """Why these images cannot be one series, as (reason, sentence) without their values; None if they can.

    One Series Instance UID over two studies or two patients is a fault of whoever made it: a result would
    carry the identity of one of them.
    """
    for reason, what, values in (
        ("study-mixed", "Study Instance UID (0020,000D)", {i.study_instance_uid for i in images}),
        ("patient-mixed", "Patient ID (0010,0020)", {i.patient.get("PatientID", "") for i in images}),
    ):
        if len(values) > 1:
            return reason, f"the images of this series have {len(values)} different values of {what}"
    return None


def _slice_spacing_mm(images: Sequence[InstanceRow]) -> float | None:
    """The median distance between neighbours along the slice normal; None where positions do not tell."""
    orientation = _numbers(images[0].attributes.get("ImageOrientationPatient"), 6)
    if orientation is None or len(images) < 2:
        return None
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    places = []
    for image in images:
        position = _numbers(image.attributes.get("ImagePositionPatient"), 3)
        if position is None:
            return None
        places.append(sum(p * n for p, n in zip(position, normal, strict=True)))
    places.sort()
    gaps = sorted(high - low for low, high in pairwise(places))
    return gaps[len(gaps) // 2] or None


def _integer(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _numbers(text: str | None, count: int) -> list[float] | None:
    try:
        numbers = [float(part) for part in (text or "").split("\\")]
    except ValueError:
        return None
    return numbers if len(numbers) == count else None


def _pair(text: str | None) -> tuple[float, float] | None:
    numbers = _numbers(text, 2)
    return (numbers[0], numbers[1]) if numbers else None

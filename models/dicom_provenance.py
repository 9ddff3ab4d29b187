"""What made a result, from what and when, said where the standard has a place for it."""

import unicodedata
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from models.operators.base import JobContext
from models.values import Measurements

if TYPE_CHECKING:
    from highdicom import ContributingEquipment
    from pydicom.dataset import Dataset

MANUFACTURER = "Lightbox"
RESEARCH_USE_ONLY = "Research use only, not for diagnosis."


def provenance(job: JobContext) -> dict[str, str]:
    """What decided the result, for Algorithm Parameters (0066,0032)."""
    said = {
        "plan": job.plan,
        "binding": job.binding,
        "device": ascii_text(job.device, 64),
        "software": ascii_text(job.software_version, 64),
    }
    return {**said, "networks": ascii_text(job.networks, 64)} if job.networks else said


def contribution(job: JobContext) -> "ContributingEquipment":
    """This program as an item of the Contributing Equipment Sequence (PS3.3 C.12.1)."""
    from highdicom import ContributingEquipment
    from pydicom.sr.codedict import codes

    pipeline = f"{job.pipeline} {job.pipeline_version}"
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=ascii_text(pipeline, 64),
        software_versions=ascii_text(job.software_version, 64),
        contribution_description=ascii_text(
            f"Pipeline {pipeline}; plan {job.plan}; binding {job.binding}; device {job.device}"
            + (f"; networks in {job.networks}" if job.networks else ""),
            1024,
        ),
    )


def segment_text(segment: str, measurements: Measurements, *, research_use_only: bool) -> str:
    """What a Segment Description (0062,0006) says of one segment: the numbers and the warning."""
    measured = (
        f"{item.quantity}: {'none' if item.value is None else f'{item.value:.6g} {item.unit}'}"
        for item in measurements.items
        if item.segment == segment
    )
    sentences = "; ".join(measured)
    warning = RESEARCH_USE_ONLY if research_use_only else ""
    return ascii_text(". ".join(filter(None, [sentences, warning])), 1024)


def dated(result: "Dataset", created: datetime) -> None:
    """Every date and time of a result object becomes that of its job, in the time zone the object names.

    Without Timezone Offset From UTC (0008,0201) they are as `created` has them.
    """
    offset = str(result.get("TimezoneOffsetFromUTC") or "")
    if created.tzinfo is not None and len(offset) == 5 and offset[1:].isdecimal():
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        sign = -1 if offset[0] == "-" else 1
        created = created.astimezone(timezone(sign * timedelta(minutes=minutes)))
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S.%f")
    for prefix in ("InstanceCreation", "Series", "Content"):
        setattr(result, f"{prefix}Date", date)
        setattr(result, f"{prefix}Time", time)
    for item in result.ContributingEquipmentSequence:  # ours, and highdicom's with its own clock
        item.ContributionDateTime = created.strftime("%Y%m%d%H%M%S.%f%z")


def digest_word(digest: str) -> str:
    """The first 16 hexadecimal digits of a digest, as something short to call it by."""
    return digest.removeprefix("sha256:")[:16] or "unknown"


def ascii_text(text: str, limit: int) -> str:
    """`text` in the repertoire every Specific Character Set has (PS3.5 6.1.2.1), without backslashes."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return plain.replace("\\", "/").strip()[:limit]

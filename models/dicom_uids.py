"""UIDs that follow from what they name, so that doing a job again gives the same objects."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from models.operators.base import JobContext


@dataclass(frozen=True, slots=True)
class ResultUids:
    """The UIDs of one result object."""

    sop_instance_uid: str
    series_instance_uid: str
    dimension_organization_uid: str


def derived_uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) from the SHA-256 of `parts`: equal for equal parts, <= 44 characters."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return f"2.25.{UUID(bytes=digest[:16], version=5).int}"


def result_uids(job: JobContext, sources: Iterable[str], output: str, encoding: str) -> ResultUids:
    """UIDs of what an output of a job becomes.

    sources: what identifies the images of the series, in any order: SOP Instance UID and digest of the bytes,
    so that an image sent again with other bytes makes another result.
    """
    identity = (job.tenant, job.plan, job.binding, *sorted(sources), output, encoding)
    return ResultUids(
        derived_uid("instance", *identity),
        derived_uid("series", *identity),
        derived_uid("dimension-organization", *identity),
    )

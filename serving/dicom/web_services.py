"""What the DICOMweb routers are given, and what they have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastapi import Request, Response

from serving.dicom.handover import AssociationClosed, CountRefusal, Intake
from serving.dicom.instance import is_uid
from serving.dicom.spool import Spool
from serving.errors import BadRequest
from serving.jobs.database import Database

PREFIX = "/dicom-web"
DICOM_JSON = "application/dicom+json"

Element: TypeAlias = dict[str, Any]
DicomJson: TypeAlias = dict[str, Element]
"""A data set in the DICOM JSON model (PS3.18 Annex F)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomWebServices:
    """Whose request it is, where images go in, and where they are found again."""

    tenant_of: Callable[[Request], str]
    """Raises NotAuthenticated."""
    database: Database
    intake: Intake
    association_closed: AssociationClosed
    """A STOW-RS request counts as an association."""
    spool: Spool
    max_body_bytes: int
    idle_timeout_s: float = 60.0
    """A request whose body stalls for so long is given up."""
    not_taken: CountRefusal = lambda what, reason: None


def checked_uids(**uids: str | None) -> None:
    """Raises: BadRequest if one of the UIDs in a path cannot be one."""
    for name, uid in uids.items():
        if uid is not None and not is_uid(uid):
            raise BadRequest(f"The {name} in the path is no UID.")


def element(vr: str, *values: Any) -> Element:
    """One attribute in the DICOM JSON model; without values it is empty."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def json_answer(content: Any, status: int = 200) -> Response:
    """application/dicom+json."""
    import orjson

    return Response(orjson.dumps(content), status_code=status, media_type=DICOM_JSON)


def base_url(request: Request) -> str:
    """The address under which the client reaches DICOMweb here."""
    return str(request.base_url).rstrip("/") + PREFIX

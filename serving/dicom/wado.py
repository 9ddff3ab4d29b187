"""WADO-RS: retrieve studies, series and instances, and their metadata (PS3.18 10.4). As stored."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from serving.dicom.accept import MediaRange, accepted
from serving.dicom.web_services import (
    DICOM_JSON,
    PREFIX,
    DicomJson,
    DicomWebServices,
    checked_uids,
    json_answer,
)
from serving.errors import NotAcceptable, NotFound
from serving.jobs import instances
from serving.jobs.instances import InstanceRow

DICOM = "application/dicom"
_CHUNK_BYTES = 1 << 20
_BULK_BYTES = 1024
"""Binary values longer than this are left out of metadata. PS3.18 F.2.6 leaves the size to us."""


def wado_router(services: DicomWebServices) -> APIRouter:
    """The Retrieve transaction for data sets and metadata."""
    router = APIRouter(prefix=PREFIX)

    async def found(
        request: Request, study: str, series: str | None, instance: str | None
    ) -> Sequence[InstanceRow]:
        tenant = services.tenant_of(request)
        checked_uids(study=study, series=series, instance=instance)
        rows = await services.database.read(
            lambda connection: instances.find(connection, tenant, study, series, instance)
        )
        if not rows:
            raise NotFound("There is no such study, series or instance.")
        return rows

    async def retrieve(
        request: Request, study: str, series: str | None = None, instance: str | None = None
    ) -> Response:
        """The objects, as multipart/related or (one instance) as application/dicom."""
        rows = await found(request, study, series, instance)
        return _objects(rows, accepted(request.headers.get("accept", "")))

    async def metadata(
        request: Request, study: str, series: str | None = None, instance: str | None = None
    ) -> Response:
        """The data sets in the DICOM JSON model, without bulk data."""
        rows = await found(request, study, series, instance)
        _check_json(accepted(request.headers.get("accept", "")))
        return json_answer(await asyncio.to_thread(lambda: [_metadata(row.path) for row in rows]))

    for level in ("", "/series/{series}", "/series/{series}/instances/{instance}"):
        router.get("/studies/{study}" + level)(retrieve)
        router.get("/studies/{study}" + level + "/metadata")(metadata)
    return router


def _objects(rows: Sequence[InstanceRow], wanted: Sequence[MediaRange]) -> Response:
    """The answer in the first media type of the client's that fits."""
    for media in wanted:
        if not all(media.allows_syntax(row.transfer_syntax_uid) for row in rows):
            continue
        if media.matches("multipart/related") and media.part_type in ("", DICOM, "application/*", "*/*"):
            return _multipart(rows)
        if media.matches(DICOM) and len(rows) == 1:
            return FileResponse(rows[0].path, media_type=DICOM)
    raise NotAcceptable(
        'What is stored can be given as multipart/related; type="application/dicom" (one instance also as '
        "application/dicom), in the transfer syntax it came in."
    )


def _check_json(wanted: Sequence[MediaRange]) -> None:
    if not any(media.matches(DICOM_JSON) or media.matches("application/json") for media in wanted):
        raise NotAcceptable(f"Metadata can be given as {DICOM_JSON}.")


def _multipart(rows: Sequence[InstanceRow]) -> Response:
    boundary = uuid.uuid4().hex
    heads = [
        (
            f"\r\n--{boundary}\r\nContent-Type: {DICOM}; transfer-syntax={row.transfer_syntax_uid}\r\n\r\n"
        ).encode()
        for row in rows
    ]
    tail = f"\r\n--{boundary}--\r\n".encode()

    def body() -> Iterator[bytes]:
        for row, head in zip(rows, heads, strict=True):
            yield head
            with Path(row.path).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        yield tail

    length = sum(len(head) for head in heads) + sum(row.size for row in rows) + len(tail)
    media_type = f'multipart/related; type="{DICOM}"; boundary={boundary}'
    return StreamingResponse(body(), media_type=media_type, headers={"Content-Length": str(length)})


def _metadata(path: str) -> DicomJson:
    from pydicom import dcmread

    dataset = dcmread(path, stop_before_pixels=True)
    for elem in [e for e in dataset if e.VR in ("OB", "OW", "OF", "OD", "OL", "UN")]:
        if elem.value is not None and len(elem.value) > _BULK_BYTES:
            del dataset[elem.tag]
    return dataset.to_json_dict(suppress_invalid_tags=True)

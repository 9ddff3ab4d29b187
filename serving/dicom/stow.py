"""STOW-RS: POST /dicom-web/studies[/{study}] (PS3.18 10.5). Parts stream to the spool."""

import asyncio
import contextlib
import logging
import mmap
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from serving.answers import answer_for
from serving.dicom.handover import CountRefusal, Refused
from serving.dicom.header import file_meta
from serving.dicom.instance import (
    STUDY_INSTANCE_UID,
    Header,
    ReceivedInstance,
    read_header,
    received_instance,
)
from serving.dicom.related import RelatedParser, related_type
from serving.dicom.spool import Incoming, SpoolFolder, new_association
from serving.dicom.syntaxes import storage_sop_classes, transfer_syntaxes
from serving.dicom.web_services import (
    PREFIX,
    DicomJson,
    DicomWebServices,
    base_url,
    checked_uids,
    element,
    json_answer,
)
from serving.errors import (
    BadRequest,
    DatasetMismatch,
    MediaTypeUnsupported,
    NoCapacity,
    RequestError,
    SopClassUnsupported,
    TimedOut,
    TooLarge,
    TransferSyntaxUnsupported,
)

_LOG = logging.getLogger(__name__)

DICOM = "application/dicom"
_BLOCK_BYTES = 1 << 20
"""Gathered before a thread is asked to parse, hash and write it: a hop costs about 0.1 ms."""
_GROUP = 32
"""Finished instances journalled together. A guess: one commit for 16 MB of CT."""

_DRAIN_S, _DRAIN_BYTES = 5.0, 64 << 20
"""How much of a refused body is taken in before the connection is closed on it. A guess."""


@dataclass(slots=True)
class Failure:
    """One part that was not stored; without a header its UIDs are unknown."""

    error: RequestError
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(slots=True)
class Outcomes:
    """What became of the parts of one request."""

    stored: list[ReceivedInstance] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def stow_router(services: DicomWebServices) -> APIRouter:
    """The Store transaction."""
    router = APIRouter(prefix=PREFIX)

    async def store(request: Request, study: str | None = None) -> Response:
        """Store the instances of the body. 200: all; 202: some; 409: none; the answer names the failures."""
        try:
            tenant = services.tenant_of(request)
            checked_uids(study=study)
            outcomes = await _receive(services, tenant, request, study)
        except RequestError as error:
            services.not_taken("association", error.reason)
            if not isinstance(error, TimedOut):  # that one sends nothing any more
                await _drain(request)
            raise
        return json_answer(_report(outcomes, base_url(request)), _http_status(outcomes))

    router.post("/studies")(store)
    router.post("/studies/{study}")(store)
    return router


async def _drain(request: Request) -> None:
    """Take in what a refused client still sends: closing on it would reset the connection, answer and all."""
    drained = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # the last: it was all read
        async with asyncio.timeout(_DRAIN_S):
            async for chunk in request.stream():
                drained += len(chunk)
                if drained > _DRAIN_BYTES:
                    return


async def _receive(services: DicomWebServices, tenant: str, request: Request, study: str | None) -> Outcomes:
    kind = related_type(request.headers.get("content-type", ""))
    if kind.media_type not in ("", DICOM):
        raise MediaTypeUnsupported(f'Parts of type "{DICOM}" are stored; no others.')
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > services.max_body_bytes:
        raise _too_large(services)
    services.spool.check_free()
    folder = services.spool.folder(tenant, new_association())
    receiving = _Receiving(folder, kind.boundary, study, services.not_taken)
    outcomes = Outcomes(failures=receiving.failures)
    _LOG.info("request %s of tenant %s", folder.association, tenant)
    try:
        async for block in _blocks(request, services):
            await asyncio.to_thread(receiving.parser.feed, block)
            if len(receiving.finished) >= _GROUP:
                await _journal(services, folder, receiving, outcomes)
        receiving.parser.close()
    finally:  # what was complete stays, whatever happened to the rest of the request
        await asyncio.shield(_finish(services, folder, receiving, outcomes))
    if not outcomes.stored and not outcomes.failures:
        raise BadRequest("The body has no parts.")
    return outcomes


async def _blocks(request: Request, services: DicomWebServices) -> AsyncIterator[bytes]:
    block, received = bytearray(), 0
    async for chunk in _chunks(request, services.idle_timeout_s):
        received += len(chunk)
        if received > services.max_body_bytes:
            raise _too_large(services)
        block += chunk
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


async def _chunks(request: Request, idle_timeout_s: float) -> AsyncIterator[bytes]:
    """The body as it comes. Raises: TimedOut."""
    stream = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(idle_timeout_s):
                chunk = await anext(stream)
            yield chunk
    except StopAsyncIteration:
        return
    except TimeoutError as error:
        raise TimedOut(f"Nothing more of the body came in {idle_timeout_s:g} s.") from error


async def _journal(
    services: DicomWebServices, folder: SpoolFolder, receiving: "_Receiving", outcomes: Outcomes
) -> None:
    """Make the finished files' names durable, then hand them over."""
    finished, receiving.finished = receiving.finished, []
    if not finished:
        return
    await asyncio.to_thread(folder.sync)
    for instance, outcome in zip(finished, await services.intake(finished), strict=True):
        if isinstance(outcome, Refused):
            receiving.fail(outcome.as_error(), instance.sop_class_uid, instance.sop_instance_uid)
        else:
            outcomes.stored.append(instance)
        if isinstance(outcome, Refused) or outcome.duplicate:
            Path(instance.path).unlink(missing_ok=True)


async def _finish(
    services: DicomWebServices, folder: SpoolFolder, receiving: "_Receiving", outcomes: Outcomes
) -> None:
    receiving.discard()
    await _journal(services, folder, receiving, outcomes)
    folder.close()
    await services.association_closed(folder.association)


class _Receiving:
    """The parts of one request: each a file in the spool. Called by one thread at a time."""

    def __init__(
        self, folder: SpoolFolder, boundary: bytes, study: str | None, not_taken: CountRefusal
    ) -> None:
        self.parser = RelatedParser(boundary, self._begin)
        self.finished: list[ReceivedInstance] = []
        self.failures: list[Failure] = []
        self._folder = folder
        self._study = study
        self.not_taken = not_taken
        self._open: _DicomPart | None = None

    def fail(self, error: RequestError, sop_class_uid: str = "", sop_instance_uid: str = "") -> None:
        _LOG.warning("instance refused in %s: %s", self._folder.association, error.message)
        self.failures.append(Failure(error, sop_class_uid, sop_instance_uid))

    def discard(self) -> None:
        """A part that did not end leaves nothing."""
        if self._open is not None:
            self._open.discard()

    def _begin(self, media_type: str) -> "_DicomPart":
        self._open = _DicomPart(self._folder, media_type, self._study, self)
        return self._open


class _DicomPart:
    """One part: written as it comes, read when complete."""

    def __init__(
        self, folder: SpoolFolder, media_type: str, study: str | None, receiving: _Receiving
    ) -> None:
        self._folder, self._study, self._receiving = folder, study, receiving
        self._incoming: Incoming | None = None
        self._error: RequestError | None = None
        if media_type not in ("", DICOM):
            self._error = MediaTypeUnsupported(f"A part is of type {media_type}, not {DICOM}.")
        else:
            self._try(self._start)

    def write(self, data: bytes) -> None:
        if self._incoming is not None:
            self._try(partial(self._incoming.write, data))

    def end(self) -> None:
        header: Header | None = None
        try:
            if self._error is not None or self._incoming is None:
                raise self._error or RequestError("The part was discarded.")
            header, transfer_syntax_uid = _read(self._incoming)
            _check(header, transfer_syntax_uid, self._study)
            file = self._incoming.finish(sync_folder=False)
            instance = received_instance(
                header,
                tenant=self._folder.tenant,
                transfer_syntax_uid=transfer_syntax_uid,
                path=str(file.path),
                digest=file.digest,
                size=file.size,
                source="stow",
                association=self._folder.association,
            )
            self._receiving.finished.append(instance)
        except RequestError as error:
            uids = (header.sop_class_uid, header.sop_instance_uid) if header is not None else ()
            self._receiving.fail(error, *uids)
            self._receiving.not_taken("image", error.reason)
        finally:
            self.discard()

    def discard(self) -> None:
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    def _start(self) -> None:
        self._incoming = self._folder.begin()

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except RequestError as error:
            self._error = error
            self.discard()


def _read(incoming: Incoming) -> tuple[Header, str]:
    if incoming.size == 0:
        raise BadRequest("A part is empty.")
    with mmap.mmap(incoming.fileno(), incoming.size, prot=mmap.PROT_READ) as data:
        transfer_syntax_uid, start = file_meta(data)
        return read_header(data, transfer_syntax_uid, start), transfer_syntax_uid


def _check(header: Header, transfer_syntax_uid: str, study: str | None) -> None:
    if study is not None and header.uids[STUDY_INSTANCE_UID] != study:
        message = "Study Instance UID (0020,000D) is not the one of the request."
        raise DatasetMismatch(message, tag=STUDY_INSTANCE_UID)
    if header.sop_class_uid not in storage_sop_classes():
        raise SopClassUnsupported("SOP Class UID (0008,0016) is no storage SOP class of the standard.")
    if transfer_syntax_uid not in transfer_syntaxes():
        raise TransferSyntaxUnsupported("The Transfer Syntax UID (0002,0010) is not one that is kept here.")


def _too_large(services: DicomWebServices) -> TooLarge:
    return TooLarge(f"The body is larger than {services.max_body_bytes} bytes.")


def _http_status(outcomes: Outcomes) -> int:
    """PS3.18 table 10.5.3-1."""
    if not outcomes.failures:
        return 200
    if outcomes.stored:
        return 202
    if all(isinstance(failure.error, NoCapacity) for failure in outcomes.failures):
        return 503
    if all(isinstance(failure.error, MediaTypeUnsupported) for failure in outcomes.failures):
        return 415
    return 409


def _report(outcomes: Outcomes, base: str) -> DicomJson:
    """The Store Instances Response Module (PS3.18 Annex I)."""
    report: DicomJson = {}
    known = [failure for failure in outcomes.failures if failure.sop_instance_uid]
    unknown = [failure for failure in outcomes.failures if not failure.sop_instance_uid]
    studies = {instance.study_instance_uid for instance in outcomes.stored}
    if len(studies) == 1:
        report["00081190"] = element("UR", f"{base}/studies/{studies.pop()}")
    if outcomes.stored:
        report["00081199"] = element("SQ", *_stored(outcomes.stored, base))
    if known:
        report["00081198"] = element(
            "SQ",
            *(
                {
                    "00081150": element("UI", failure.sop_class_uid),
                    "00081155": element("UI", failure.sop_instance_uid),
                    **_reason(failure),
                }
                for failure in known
            ),
        )
    if unknown:
        report["0008119A"] = element("SQ", *(_reason(failure) for failure in unknown))
    return report


def _stored(instances: Sequence[ReceivedInstance], base: str) -> list[DicomJson]:
    return [
        {
            "00081150": element("UI", instance.sop_class_uid),
            "00081155": element("UI", instance.sop_instance_uid),
            "00081190": element(
                "UR",
                f"{base}/studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
                f"/instances/{instance.sop_instance_uid}",
            ),
        }
        for instance in instances
    ]


def _reason(failure: Failure) -> DicomJson:
    """Failure Reason, and the sentence as Error Comment for whoever reads it."""
    return {
        "00081197": element("US", answer_for(failure.error).dimse),
        "00000902": element("LO", failure.error.message),
    }

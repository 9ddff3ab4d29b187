"""Both DICOM front doors with a real journal behind them, and small images to send."""

import asyncio
import contextlib
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from serving.answers import answer_for
from serving.config import Dimse, Tenant, key_fingerprint
from serving.dicom.handover import Accepted, HandoverServer, Outcome, Refusable, refused
from serving.dicom.instance import ReceivedInstance
from serving.dicom.qido import qido_router
from serving.dicom.receiver_process import receiver_main
from serving.dicom.receiver_settings import ReceiverSettings
from serving.dicom.spool import Spool
from serving.dicom.stow import stow_router
from serving.dicom.wado import wado_router
from serving.dicom.web_services import DicomWebServices
from serving.errors import RequestError
from serving.jobs import instances
from serving.jobs.database import Database
from serving.jobs.instances import Arrival
from serving.tenants.identity import identify_client

TENANTS = (
    Tenant(name="local"),
    Tenant(name="north", ae_titles=("NORTH",), api_keys_sha256=(key_fingerprint("north-key"),)),
    Tenant(name="far", ae_titles=("FAR",), peers=("192.0.2.0/24",)),
)
MAX_BODY_BYTES = 4 << 20
MAX_OBJECT_BYTES = 3 << 20
IDLE_TIMEOUT_S = 1.0
"""Of a STOW-RS body."""


@dataclass
class Front:
    """What a test asks and changes."""

    folder: Path
    host: str = ""
    port: int = 0
    url: str = ""
    database: Database = None  # type: ignore[assignment]
    received: list[ReceivedInstance] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    refused: list[tuple[Refusable, str]] = field(default_factory=list)
    """What was not taken, and why."""
    refusal: RequestError | None = None
    """If set, the journal refuses everything with it."""
    process: Any = None
    stop: Callable[[], object] = lambda: None

    async def intake(self, offered: Sequence[ReceivedInstance]) -> Sequence[Outcome]:
        if self.refusal is not None:
            return [refused(self.refusal)] * len(offered)
        self.batches.append(len(offered))
        arrivals = await self.database.write(lambda c: instances.add_received(c, offered, time.time()))
        self.received += offered
        return [Accepted(duplicate=arrival is Arrival.SAME) for arrival in arrivals]

    def count_refusal(self, what: Refusable, reason: str) -> None:
        self.refused.append((what, reason))

    async def association_closed(self, association: str) -> None:
        self.closed.append(association)

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait, with a deadline, for something another process does."""
        deadline = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline, what
            threading.Event().wait(0.01)

    def spooled(self) -> list[Path]:
        """All files of the spool; folders may go while we look."""
        found = os.walk(self.folder / "spool")
        return sorted(Path(folder, name) for folder, _, names in found for name in names)


@contextlib.contextmanager
def running_front(folder: Path, *, dimse: Dimse | None = None, min_free_bytes: int = 0) -> Iterator[Front]:
    """A receiver process and a web server on free loopback ports, until the end of the block."""
    folder.mkdir(exist_ok=True)
    front = Front(folder)
    ready = threading.Event()
    failed: list[BaseException] = []
    settings = ReceiverSettings(
        dimse=dimse or Dimse(port=0),
        tenants=TENANTS,
        spool=folder / "spool",
        min_free_bytes=min_free_bytes,
        max_object_bytes=MAX_OBJECT_BYTES,
        log_level="WARNING",
    )

    def run() -> None:
        try:
            asyncio.run(_serve(front, settings, min_free_bytes, ready))
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="front")
    thread.start()
    ready.wait(60)
    try:
        assert not failed, failed
        yield front
    finally:
        front.stop()
        thread.join(30)
        assert not thread.is_alive()


async def _serve(front: Front, settings: ReceiverSettings, min_free: int, ready: threading.Event) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["serving.dicom.receiver"])
    ours, theirs = context.Pipe()
    front.process = context.Process(target=receiver_main, args=(settings, theirs), daemon=True)
    front.process.start()
    theirs.close()
    front.database = Database(front.folder / "journal.sqlite")
    handover = HandoverServer(ours, front.intake, front.association_closed, front.count_refusal)
    web, listening = _web(front, min_free)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # a test stopped it before, and its loop is closed by now
            loop.call_soon_threadsafe(stopping.set)

    front.stop = stop
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(handover.run())
        tasks.create_task(web.serve(sockets=[listening]))
        front.host, front.port = await handover.listening()
        ready.set()
        await stopping.wait()
        handover.stop()
        web.should_exit = True
    await asyncio.to_thread(front.process.join, 20)
    front.database.close()
    ours.close()


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _web(front: Front, min_free_bytes: int) -> tuple[uvicorn.Server, socket.socket]:
    app = FastAPI()

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: RequestError) -> JSONResponse:
        return JSONResponse({"error": error.message}, status_code=answer_for(error).http)

    services = DicomWebServices(
        tenant_of=lambda request: identify_client(TENANTS, request.headers, listens_on="127.0.0.1"),
        database=front.database,
        intake=front.intake,
        association_closed=front.association_closed,
        spool=Spool(front.folder / "spool", min_free_bytes=min_free_bytes, max_object_bytes=MAX_OBJECT_BYTES),
        max_body_bytes=MAX_BODY_BYTES,
        idle_timeout_s=IDLE_TIMEOUT_S,
        not_taken=front.count_refusal,
    )
    for make in (stow_router, wado_router, qido_router):
        app.include_router(make(services))
    listening = socket.create_server(("127.0.0.1", 0))
    front.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    return _Quiet(uvicorn.Config(app, log_config=None, lifespan="off")), listening


def ct_image(number: int = 1, *, study: str | None = None, series: str | None = None) -> Dataset:
    """A small CT image (32x32, noise-free), complete enough for every door."""
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = study or generate_uid()
    ds.SeriesInstanceUID = series or generate_uid()
    ds.Modality = "CT"
    ds.PatientName, ds.PatientID, ds.StudyDate = "Doe^Jane", "P-1", "20240229"
    ds.InstanceNumber = number
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.5, 0.5]
    ds.Rows = ds.Columns = 32
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelData = bytes(2 * 32 * 32)
    ds.preamble = bytes(128)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def ct_series(folder: Path, count: int) -> list[Path]:
    """Files of one series."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series = generate_uid(), generate_uid()
    files = []
    for number in range(1, count + 1):
        file = folder / f"{number:04}.dcm"
        ct_image(number, study=study, series=series).save_as(file, enforce_file_format=True)
        files.append(file)
    return files

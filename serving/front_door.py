"""The DIMSE receiver as the main process sees it: started, restarted when it dies, stopped without loss."""

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext, ForkServerProcess

from serving.config import Config, ConfigError
from serving.dicom.handover import CountRefusal, HandoverServer
from serving.dicom.receiver_process import receiver_main
from serving.dicom.receiver_settings import ReceiverSettings
from serving.intake import Intake
from serving.workplace import Workplace

log = logging.getLogger(__name__)

RESTART_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
"""Between the receiver's death and its successor; doubles while none lives long. A guess."""
STEADY_S = 30.0
"""A receiver that has listened for so long has lived long. A guess."""
STOP_S = 15.0
"""The receiver gives running C-STOREs 10 s; then it is killed, and what it had is not acknowledged."""


class FrontDoor:
    """Keeps one receiver process running and its images going into the intake."""

    def __init__(
        self,
        config: Config,
        place: Workplace,
        context: ForkServerContext,
        intake: Intake,
        not_taken: CountRefusal = lambda what, reason: None,
    ) -> None:
        self._context, self._intake, self._not_taken = context, intake, not_taken
        self._dimse = config.dimse
        self._settings = ReceiverSettings(
            dimse=config.dimse,
            tenants=config.tenants,
            spool=place.spool,
            min_free_bytes=config.spool.min_free_bytes,
            max_object_bytes=config.spool.max_object_bytes,
            log_level=config.log_level,
        )
        self._process: ForkServerProcess | None = None
        self._handover: HandoverServer | None = None
        self._stopping = asyncio.Event()
        self.restarts = 0
        self.is_open = False
        """Whether the receiver listens."""
        self.address: tuple[str, int] = (config.dimse.host, config.dimse.port)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start the receiver and wait until its port is open.

        Raises: ConfigError if the port cannot be had.
        """
        _check_free(self._dimse.host, self._dimse.port)
        handover = await self._start_process()
        self._keeper = tasks.create_task(self._keep_running(handover))
        try:
            self.address = await handover.listening()
        except ConnectionError as error:
            raise ConfigError(f"dimse.port: the receiver could not start: {error}") from error
        self.is_open = True
        at = self._dimse.model_copy(update={"port": self.address[1]})
        self._settings = replace(self._settings, dimse=at)  # its successors take the port that peers know

    async def stop(self) -> None:
        """No more associations; running C-STOREs finish."""
        self._stopping.set()
        if self._handover is not None:
            self._handover.stop()
        try:
            await asyncio.wait_for(asyncio.shield(self._keeper), STOP_S)
        except TimeoutError:
            log.warning("the receiver did not stop in %g s and is killed", STOP_S)
        if self._process is not None and self._process.is_alive():
            await asyncio.to_thread(self._process.join, 1.0)
        await self._end_process()
        await self._keeper

    async def _start_process(self) -> HandoverServer:
        ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=receiver_main, args=(self._settings, theirs), name="lightbox-receiver", daemon=True
        )
        await asyncio.to_thread(self._process.start)
        theirs.close()
        self._handover = HandoverServer(
            ours, self._intake.receive, self._intake.association_closed, self._not_taken
        )
        return self._handover

    async def _keep_running(self, handover: HandoverServer) -> None:
        delay_s = RESTART_DELAY_S
        while True:
            began_s = time.monotonic()
            await asyncio.gather(handover.run(), self._note_open(handover))
            self.is_open = False
            if self._stopping.is_set():
                return
            if time.monotonic() - began_s >= STEADY_S:
                delay_s = RESTART_DELAY_S
            log.error("the receiver process ended; it is started again in %g s", delay_s)
            self.restarts += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            if self._stopping.is_set():
                return
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
            await self._end_process()
            handover = await self._start_process()
            if self._stopping.is_set():
                handover.stop()

    async def _note_open(self, handover: HandoverServer) -> None:
        with contextlib.suppress(ConnectionError):  # it ended before it listened
            await handover.listening()
            self.is_open = True

    async def _end_process(self) -> None:
        """One that has hung up and lives on would keep the port."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            await asyncio.to_thread(self._process.join)


def _check_free(host: str, port: int) -> None:
    """A port in use is said here, with its setting, rather than by a child process."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"dimse.port: {host}:{port} cannot be listened on: {error.strerror}") from error

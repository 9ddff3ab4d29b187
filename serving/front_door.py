"""The DIMSE receiver as the main process sees it: started, restarted when it dies, stopped without loss."""

import asyncio
import logging
import socket
from multiprocessing.context import ForkServerContext, ForkServerProcess

from serving.config import Config, ConfigError
from serving.dicom.handover import HandoverServer
from serving.dicom.receiver_process import receiver_main
from serving.dicom.receiver_settings import ReceiverSettings
from serving.intake import Intake
from serving.workplace import Workplace

log = logging.getLogger(__name__)

RESTART_DELAY_S = 0.5
"""Between the receiver's death and its successor. A guess."""
STOP_S = 15.0
"""The receiver gives running C-STOREs 10 s; then it is killed, and what it had is not acknowledged."""


class FrontDoor:
    """Keeps one receiver process running and its images going into the intake."""

    def __init__(self, config: Config, place: Workplace, context: ForkServerContext, intake: Intake) -> None:
        self._context, self._intake = context, intake
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

    async def stop(self) -> None:
        """No more associations; running C-STOREs finish."""
        self._stopping.set()
        if self._handover is not None:
            self._handover.stop()
        try:
            await asyncio.wait_for(asyncio.shield(self._keeper), STOP_S)
        except TimeoutError:
            log.warning("the receiver did not stop in %g s and is killed", STOP_S)
        if self._process is not None:
            if self._process.is_alive():
                await asyncio.to_thread(self._process.join, 1.0)
            self._process.kill()
            await asyncio.to_thread(self._process.join)
        await self._keeper

    async def _start_process(self) -> HandoverServer:
        ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=receiver_main, args=(self._settings, theirs), name="lightbox-receiver", daemon=True
        )
        await asyncio.to_thread(self._process.start)
        theirs.close()
        self._handover = HandoverServer(ours, self._intake.receive, self._intake.association_closed)
        return self._handover

    async def _keep_running(self, handover: HandoverServer) -> None:
        while True:
            await handover.run()
            if self._stopping.is_set():
                return
            log.error("the receiver process ended; it is started again")
            self.restarts += 1
            await asyncio.sleep(RESTART_DELAY_S)
            if self._stopping.is_set():
                return
            handover = await self._start_process()


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

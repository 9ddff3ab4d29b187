"""uvicorn on our event loop and our socket; the server decides when it starts and stops, not signals."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from serving.config import ConfigError

MAX_CONNECTIONS = 512
"""More are answered 503. A guess: half of the descriptors that a process may have by default."""
_GRACE_S = 5
"""How long running responses may take after the stop."""


def listen(setting: str, host: str, port: int) -> socket.socket:
    """A socket that listens there already: connections wait until they are served.

    Raises: ConfigError naming the setting, if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise ConfigError(f"{setting}: {host}:{port} cannot be listened on: {error.strerror}") from error
    return listening


class WebServer(uvicorn.Server):
    """Serves an application until `stop`."""

    def __init__(
        self, app: FastAPI, listening: socket.socket, *, max_connections: int = MAX_CONNECTIONS
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                limit_concurrency=max_connections,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._listening = listening

    async def run_until_stopped(self) -> None:
        await self.serve(sockets=[self._listening])

    async def wait_started(self) -> None:
        while not self.started:
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would take SIGTERM for itself here."""
        yield

"""A Lightbox server of one's own, as a child process on free loopback ports; stopped by its own pid."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from loadtest.client import LightboxClient

READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
CLASSICAL = ("ct-lungs", "ct-bones", "ct-body")
"""The bundled pipelines that need no weights."""
BUNDLED = (*CLASSICAL, "ct-lungs-net")
"""All bundled pipelines but the site variants of the network."""


class ServerFailed(Exception):
    """It did not start, or a command failed; the message ends with what it wrote last."""


def lightbox_command() -> list[str]:
    """The `lightbox` of this interpreter's environment."""
    script = Path(sys.executable).parent / "lightbox"
    return [str(script)] if script.exists() else [sys.executable, "-m", "serving.cli.main"]


def lightbox(*arguments: str, deadline_s: float = 300.0) -> str:
    """Run a lightbox command to its end; its stdout. Raises: ServerFailed."""
    try:
        done = subprocess.run(
            [*lightbox_command(), *arguments], capture_output=True, text=True, timeout=deadline_s
        )
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(f"lightbox {arguments[0]} took more than {deadline_s:g} s") from error
    if done.returncode != 0:
        raise ServerFailed(
            f"lightbox {' '.join(arguments)}: exit code {done.returncode}: {_tail(done.stderr)}"
        )
    return done.stdout


def fill_store(store: Path, pipelines: Sequence[str], *, tenants: Mapping[str, Sequence[str]]) -> None:
    """Compile `pipelines` into `store` and promote for each tenant those it is to run."""
    lightbox("compile", *pipelines, "--store", str(store))
    for tenant, promoted in tenants.items():
        lightbox("promote", *promoted, "--tenant", tenant, "--store", str(store))


@dataclass(slots=True, kw_only=True)
class LightboxServer:
    """`with LightboxServer(store=...) as server:` gives a server that is ready.

    folder: of its data; a temporary one, removed at the end, if not given. store: of plans; folder/store if
    not given. settings: more environment variables, `LIGHTBOX_` included. toml: a configuration file's text.
    """

    folder: Path | None = None
    store: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    toml: str = ""
    ready_after_s: float = field(init=False, default=0.0)
    """From the start of the process to its readiness."""
    _temporary: Path | None = field(init=False, default=None)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)
    _address: dict[str, object] = field(init=False, default_factory=dict)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # whatever ended the start, no process may be left behind
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def data_dir(self) -> Path:
        """Where the server keeps its data."""
        assert self.folder is not None
        return self.folder

    @property
    def pid(self) -> int:
        """Of its main process."""
        assert self._process is not None
        return self._process.pid

    @property
    def http(self) -> str:
        """Base URL."""
        return str(self._address["http"])

    @property
    def dimse_host(self) -> str:
        """Where it takes associations."""
        return str(self._dimse["host"])

    @property
    def dimse_port(self) -> int:
        """Where it takes associations."""
        return int(str(self._dimse["port"]))

    @property
    def ae_title(self) -> str:
        """What it is called by."""
        return str(self._dimse["ae_title"])

    def client(self, api_key: str = "", *, timeout_s: float = 60.0) -> LightboxClient:
        """A client of it, for the tenant of this key."""
        return LightboxClient(base_url=self.http, api_key=api_key, timeout_s=timeout_s)

    def is_running(self) -> bool:
        """Whether its main process lives."""
        return self._process is not None and self._process.poll() is None

    def log_tail(self, lines: int = 12) -> str:
        """What it wrote last on stderr."""
        path = self.data_dir / "server.log"
        return _tail(path.read_text(errors="replace"), lines) if path.exists() else ""

    def stop(self) -> int | None:
        """Ask it to stop, then make it; the exit code, None if it never ran. Removes a temporary folder."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_DEADLINE_S)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        return None if process is None else process.returncode

    @property
    def _dimse(self) -> Mapping[str, object]:
        dimse = self._address["dimse"]
        assert isinstance(dimse, dict)
        return dimse

    def _start(self) -> None:
        if self.folder is None:
            self.folder = self._temporary = Path(tempfile.mkdtemp(prefix="lightbox-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "server.json").unlink(missing_ok=True)
        command = [*lightbox_command(), "serve"]
        if self.toml:
            configuration = self.folder / "lightbox.toml"
            configuration.write_text(self.toml, encoding="utf-8")
            command += ["--config", str(configuration)]
        began = time.monotonic()
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us to pass on, once
            )
        self._wait_until_ready(began + READY_DEADLINE_S)
        self.ready_after_s = time.monotonic() - began

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTBOX_")}
        ours = {
            "LIGHTBOX_DATA_DIR": str(self.folder),
            "LIGHTBOX_STORE_DIR": str(self.store or self.data_dir / "store"),
            "LIGHTBOX_HTTP__PORT": "0",
            "LIGHTBOX_DIMSE__PORT": "0",
        }
        return {**inherited, **ours, **self.settings}

    def _wait_until_ready(self, until: float) -> None:
        announced = self.data_dir / "server.json"
        while not self._is_ready(announced):
            if not self.is_running():
                raise ServerFailed(f"the server ended before it was ready: {self.log_tail()}")
            if time.monotonic() > until:
                raise ServerFailed(f"the server is not ready after {READY_DEADLINE_S:g} s: {self.log_tail()}")
            time.sleep(0.01)

    def _is_ready(self, announced: Path) -> bool:
        if not self._address:
            try:
                self._address = json.loads(announced.read_text(encoding="utf-8"))
            except (FileNotFoundError, json.JSONDecodeError):  # not yet, or half written
                return False
        return self.client().is_ready()


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:]) or "it wrote nothing"

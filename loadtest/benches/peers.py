"""Somebody else's programs beside ours: Orthanc and dcmtk's storescp to receive, dcmtk's storescu to send."""

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtest.server import ServerFailed

STORESCU = "/usr/bin/storescu"
"""Debian's dcmtk by its full path: pynetdicom puts another program of that name on PATH."""
STORESCP = "/usr/bin/storescp"
ORTHANC = "/usr/sbin/Orthanc"
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 30.0
SEND_DEADLINE_S = 300.0


def find_program(path: str, package: str) -> str:
    """`path` if it can be run. Raises: FileNotFoundError that says what to install."""
    if shutil.which(path) is None:
        raise FileNotFoundError(f"{path} is not here: apt-get install {package}")
    return path


def free_ports(count: int) -> list[int]:
    """Loopback TCP ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def orthanc() -> Iterator[tuple[int, str]]:
    """A fresh Orthanc with its storage in a temporary folder. Gives its DICOM port and its HTTP base URL."""
    program = find_program(ORTHANC, "orthanc")
    with tempfile.TemporaryDirectory(prefix="orthanc-") as name:
        folder = Path(name)
        dicom_port, http_port = free_ports(2)
        configuration = folder / "orthanc.json"
        configuration.write_text(
            json.dumps(
                {
                    "Name": "bench",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "Plugins": [],
                    "DicomPort": dicom_port,
                    "HttpPort": http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomCheckCalledAet": False,
                }
            )
        )
        log = folder / "orthanc.log"
        with _running([program, str(configuration)], log):
            _wait_for_port(dicom_port, log)
            url = f"http://127.0.0.1:{http_port}"
            _wait_for_http(f"{url}/system", log)
            yield dicom_port, url


@contextmanager
def storescp() -> Iterator[int]:
    """dcmtk's storescp, a process an association, files in a temporary folder, not synced. Gives its port."""
    program = find_program(STORESCP, "dcmtk")
    with tempfile.TemporaryDirectory(prefix="storescp-") as name:
        (port,) = free_ports(1)
        log = Path(name) / "log"
        received = Path(name) / "received"
        received.mkdir()
        with _running([program, "--fork", "--output-directory", str(received), str(port)], log):
            _wait_for_port(port, log)
            yield port


def storescu(port: int, ae_title: str, file_groups: Sequence[Sequence[Path]]) -> float:
    """Send every group of files in an association of its own, all at once, with storescu at its defaults.

    Returns: seconds from the first start to the last end. Raises: ServerFailed if one of them fails.
    """
    program = find_program(STORESCU, "dcmtk")
    began = time.perf_counter()
    senders = [
        subprocess.Popen(
            [program, "-aec", ae_title, "127.0.0.1", str(port), *map(str, files)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for files in file_groups
    ]
    said = []
    try:
        for sender in senders:
            text, _ = sender.communicate(timeout=SEND_DEADLINE_S)
            said.append((sender.returncode, text))
    finally:
        for sender in senders:
            if sender.poll() is None:
                sender.kill()
                sender.wait()
    seconds = time.perf_counter() - began
    for code, text in said:
        if code != 0 or "E: " in text:
            last = text.strip().splitlines()[-1:] or ["nothing said"]
            raise ServerFailed(f"storescu ended with {code}: {last[0]}")
    return seconds


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    """Run a program; stop it by its pid at the end (Orthanc takes up to 10 s to go)."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(port: int, log: Path) -> None:
    until = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                tail = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise ServerFailed(f"nothing listens on port {port}: {tail}") from None
            time.sleep(0.05)
        else:
            return


def _wait_for_http(url: str, log: Path) -> None:
    until = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback URL
                answer.read()
        except (urllib.error.URLError, OSError):
            if time.monotonic() > until:
                tail = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise ServerFailed(f"{url} does not answer: {tail}") from None
            time.sleep(0.05)
        else:
            return

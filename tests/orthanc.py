"""A real Orthanc with DICOMweb for the tests: on free ports, in a folder of its own, stopped by its pid."""

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import absent, program
from tests.end_to_end import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Orthanc:
    """Where it is. `dicom_web` is the root that dicomweb-client wants."""

    dicom_port: int
    url: str
    ae_title: str = "ORTHANC"

    @property
    def dicom_web(self) -> str:
        return f"{self.url}/dicom-web"

    def get(self, path: str) -> Any:
        """JSON of its own REST interface."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=DEADLINE_S) as response:
            return json.loads(response.read())


@contextlib.contextmanager
def running_orthanc(folder: Path, *, dicom_port: int = 0) -> Iterator[Orthanc]:
    """Start it (on a free port unless one is given) and wait for its REST interface."""
    executable = program("Orthanc", "orthanc", folder="/usr/sbin")
    if not PLUGIN.exists():
        absent("needs Orthanc's DICOMweb plugin: apt-get install orthanc-dicomweb")
    dicom_port, http_port = dicom_port or free_port(), free_port()
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "Plugins": [str(PLUGIN)],
                "DicomAet": "ORTHANC",
                "DicomPort": dicom_port,
                "HttpPort": http_port,
                "AuthenticationEnabled": False,
                "RemoteAccessAllowed": False,
                "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            }
        )
    )
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([executable, str(configuration)], stdout=log, stderr=log)
    orthanc = Orthanc(dicom_port, f"http://127.0.0.1:{http_port}")
    try:
        _wait_until_up(orthanc)
        yield orthanc
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(orthanc: Orthanc) -> None:
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            orthanc.get("/system")
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < until, "Orthanc did not start"
            time.sleep(0.1)

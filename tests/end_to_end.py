"""What the end-to-end tests share: sending with Debian's own clients, waiting for jobs."""

import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread

from loadtest.client import LightboxClient
from loadtest.server import LightboxServer
from tests.conftest import program

DEADLINE_S = 120.0


def storescu(
    server: LightboxServer, *paths: Path, called: str | None = None, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Send files or folders with dcmtk at its defaults; its exit code and words are the caller's to judge."""
    arguments = [program("storescu", "dcmtk"), "-v", *options, "-aec", called or server.ae_title]
    arguments += ["+sd", "+r", server.dimse_host, str(server.dimse_port), *map(str, paths)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def send(
    server: LightboxServer, *paths: Path, called: str | None = None, options: Sequence[str] = ()
) -> None:
    """Send, and expect every image to be taken."""
    done = storescu(server, *paths, called=called, options=options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def study_of(folder: Path) -> str:
    """The Study Instance UID of the files in a folder."""
    first = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    return str(dcmread(first, stop_before_pixels=True).StudyInstanceUID)


def ended_jobs(client: LightboxClient, study: str, count: int) -> list[dict[str, Any]]:
    """The jobs of a study, once there are so many and all have ended."""
    until = time.monotonic() + DEADLINE_S
    while True:
        jobs = client.jobs(study=study)
        if len(jobs) >= count and all(job["finished_at"] is not None for job in jobs):
            return jobs
        states = [(job["pipeline"], job["state"]) for job in jobs]
        assert time.monotonic() < until, f"not done after {DEADLINE_S:g} s: {states}"
        time.sleep(0.05)


def copy_of_store(store: Path, folder: Path) -> Path:
    """A compiled store of one's own: its stages are measured already, so that compiling again is quick."""
    shutil.copytree(store, folder)
    return folder


def jobs_by_pipeline(jobs: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of one study."""
    return {job["pipeline"]: job for job in jobs}

"""What the end-to-end tests share: sending with Debian's own clients, waiting for jobs."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.filereader import _read_file_meta_info
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context

from loadtest.client import LightboxClient
from loadtest.processes import process_tree
from loadtest.server import LightboxServer
from loadtest.studies import Instance
from tests.conftest import program

DEADLINE_S = 120.0
IMPLICIT_VR = "1.2.840.10008.1.2"


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


def wait_until(holds: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Wait, with a deadline, for something the server does."""
    until = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < until, f"not after {deadline_s:g} s: {what}"
        time.sleep(0.02)


def wait_until_running(client: LightboxClient, study: str) -> None:
    """Wait until a job of the study runs."""
    wait_until(
        lambda: any(job["state"] == "RUNNING" for job in client.jobs(study=study)), "a job of the study runs"
    )


@contextlib.contextmanager
def held_workers(client: LightboxClient) -> Iterator[None]:
    """Hold the worker processes, and so whatever is computed, until the end of the block."""
    pids = [pid for pool in client.status()["pools"].values() for pid in pool["pids"]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def kill(server: LightboxServer) -> None:
    """SIGKILL to the main process and whatever it had started, as a power cut would."""
    for pid in process_tree(server.pid):
        with contextlib.suppress(ProcessLookupError):  # the others end when the first one is gone
            os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def c_store(
    server: LightboxServer, data_set: bytes, *, sop_class: str, sop_instance: str, syntax: str
) -> tuple[int, str]:
    """Send these very bytes as a data set, as no decent client would: status and error comment."""
    address = server.dimse_host, server.dimse_port
    with _associated(address, server.ae_title, sop_class, syntax) as association:
        answer = _stored(association, data_set, sop_class, sop_instance)
    assert answer is not None, "no answer"
    return answer


def send_until_cut_off(
    instances: Sequence[Instance],
    address: tuple[str, int],
    acknowledged: Callable[[int], object] = lambda count: None,
) -> int:
    """Send images in one association until all are taken or the peer is gone: how many were acknowledged.

    acknowledged: told after each how many have been so far, before the association is released.
    """
    sop_class, syntax = instances[0].sop_class_uid, instances[0].transfer_syntax_uid
    count = 0
    with _associated(address, "LIGHTBOX", sop_class, syntax) as association:
        for instance in instances:
            data_set, _ = data_set_of(instance.data)
            if _stored(association, data_set, sop_class, instance.sop_instance_uid) != (0x0000, ""):
                break
            count += 1
            acknowledged(count)
    return count


def data_set_of(data: bytes) -> tuple[bytes, str]:
    """The data set in a file and its transfer syntax; all of it, as implicit VR, where there is no meta."""
    if data[128:132] != b"DICM":
        return data, IMPLICIT_VR
    stream = BytesIO(data)
    stream.seek(132)
    meta = _read_file_meta_info(stream)
    return data[stream.tell() :], str(meta.get("TransferSyntaxUID") or IMPLICIT_VR)


@contextlib.contextmanager
def _associated(address: tuple[str, int], called: str, sop_class: str, syntax: str) -> Iterator[Association]:
    entity = AE()
    entity.requested_contexts = [build_context(sop_class, syntax)]
    association = entity.associate(*address, ae_title=called)
    assert association.is_established
    transport = association.dul.socket
    connection = None if transport is None else transport.socket
    association._reactor_checkpoint.clear()  # its own thread would now and then take an answer that is ours
    wait_until(lambda: association._is_paused, "pynetdicom pauses", deadline_s=10)
    try:
        yield association
    finally:
        association._reactor_checkpoint.set()
        association.release()
        association.join(10)
        if connection is not None:
            connection.close()  # pynetdicom forgets one that the peer has reset


def _stored(
    association: Association, data_set: bytes, sop_class: str, sop_instance: str
) -> tuple[int, str] | None:
    """Status and error comment; None if the peer went away."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop_instance
    request.DataSet = BytesIO(data_set)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id or 0)
    _, response = association.dimse.get_msg(block=True)
    if not isinstance(response, C_STORE):
        return None
    return int(response.Status or 0), str(response.ErrorComment or "")

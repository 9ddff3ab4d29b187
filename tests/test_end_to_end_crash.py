"""A server that is killed: nothing acknowledged is lost, and a result exists once, with the same bytes."""

import hashlib
import os
import signal
import sqlite3
from pathlib import Path

from pydicom import dcmread

from loadtest.client import LightboxClient
from loadtest.server import LightboxServer
from tests.end_to_end import ended_jobs, kill, send, study_of, wait_until_running


def result_digests(client: LightboxClient, study: str) -> dict[str, str]:
    """SOP Instance UID -> digest of the bytes, of every result of a study."""
    digests = {}
    for job in client.jobs(study=study):
        for result in job["results"]:
            data = client.result(job["id"], result["output"])
            assert result["sop_instance_uid"] not in digests
            digests[result["sop_instance_uid"]] = hashlib.sha256(data).hexdigest()
    return digests


def test_a_job_that_was_running_when_the_server_was_killed_is_finished_by_the_next(
    tmp_path: Path, compiled_store: Path, phantom_folder: Path
) -> None:
    study = study_of(phantom_folder)
    data = tmp_path / "data"
    with LightboxServer(folder=data, store=compiled_store) as server:
        send(server, phantom_folder)
        wait_until_running(server.client(), study)
        kill(server)
    with LightboxServer(folder=data, store=compiled_store) as server:
        jobs = ended_jobs(server.client(), study, 3)
        assert {job["state"] for job in jobs} == {"COMPLETED"}
        instances = server.client().retrieve(study)
        assert len(instances) == len(list(phantom_folder.iterdir())) + 4


def test_images_acknowledged_before_a_kill_are_there_after_it_and_computed_on(
    tmp_path: Path, compiled_store: Path, phantom_folder: Path
) -> None:
    study = study_of(phantom_folder)
    data = tmp_path / "data"
    with LightboxServer(folder=data, store=compiled_store) as server:
        send(server, phantom_folder)
        kill(server)  # the series is not complete yet: its quiet time has not passed
    with LightboxServer(folder=data, store=compiled_store) as server:
        jobs = ended_jobs(server.client(), study, 3)
        assert {job["state"] for job in jobs} == {"COMPLETED"}


def test_a_retry_gives_the_same_object_byte_for_byte(
    tmp_path: Path, compiled_store: Path, phantom_folder: Path
) -> None:
    study = study_of(phantom_folder)
    data = tmp_path / "data"
    with LightboxServer(folder=data, store=compiled_store) as server:
        send(server, phantom_folder)
        ended_jobs(server.client(), study, 3)
        first = result_digests(server.client(), study)
    assert len(first) == 4
    # As if the server had died after computing and before the commit: the work is done, nobody knows.
    with sqlite3.connect(data / "journal.sqlite") as journal:
        journal.execute("UPDATE jobs SET state = 'RUNNING', finished_at = NULL")
        journal.execute("DELETE FROM results")
        journal.execute("DELETE FROM instances WHERE kind = 'result'")
    journal.close()
    with LightboxServer(folder=data, store=compiled_store) as server:
        ended_jobs(server.client(), study, 3)
        assert result_digests(server.client(), study) == first
        stored = [dcmread(path, stop_before_pixels=True) for path in (data / "results").rglob("*.dcm")]
        assert len({str(header.SOPInstanceUID) for header in stored}) == 4


def test_a_worker_that_is_killed_costs_a_retry_and_nothing_else(
    compiled_store: Path, phantom_folder: Path
) -> None:
    study = study_of(phantom_folder)
    with LightboxServer(store=compiled_store) as server:
        client = server.client()
        send(server, phantom_folder)
        wait_until_running(client, study)
        for pool in client.status()["pools"].values():
            for pid in pool["pids"]:
                os.kill(pid, signal.SIGKILL)
        jobs = ended_jobs(client, study, 3)
        assert {job["state"] for job in jobs} == {"COMPLETED"}
        assert sum(pool["restarts"] for pool in client.status()["pools"].values()) >= 1

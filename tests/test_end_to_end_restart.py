"""What ends before its time: the server on SIGTERM, its receiver, the file of a result. Nothing is lost."""

import json
import os
import signal
import sqlite3
import time
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from loadtest.client import ServerSaid
from loadtest.processes import process_tree
from loadtest.server import LightboxServer
from loadtest.studies import StudyTemplate
from tests.dicom_cases import ct_dataset, written
from tests.end_to_end import (
    ended_jobs,
    free_port,
    held_workers,
    kill,
    send,
    send_until_cut_off,
    study_of,
    wait_until,
    wait_until_running,
)

FILES_PER_FOLDER = 4096
"""Of the spool: serving/dicom/spool.py."""


@pytest.mark.parametrize("cut", [False, True], ids=["stages end in time", "stages are cut"])
def test_a_job_that_runs_at_sigterm_is_finished_by_the_next_server(
    cut: bool, tmp_path: Path, compiled_store: Path, phantom_folder: Path
) -> None:
    study = study_of(phantom_folder)
    data = tmp_path / "data"
    with LightboxServer(folder=data, store=compiled_store) as server:
        client = server.client()
        with held_workers(client):
            send(server, phantom_folder)
            wait_until_running(client, study)
            os.kill(server.pid, signal.SIGTERM)
            if not cut:
                time.sleep(0.5)
        if not cut:
            assert server.stop() == 0
    with sqlite3.connect(data / "journal.sqlite") as journal:
        unfinished = journal.execute("SELECT COUNT(*) FROM jobs WHERE finished_at IS NULL").fetchone()[0]
    journal.close()
    assert unfinished
    with LightboxServer(folder=data, store=compiled_store) as server:
        jobs = ended_jobs(server.client(), study, 3)
        assert {job["state"] for job in jobs} == {"COMPLETED"}
        assert len(server.client().retrieve(study)) == len(list(phantom_folder.iterdir())) + 4


def test_images_acknowledged_while_the_server_stops_are_there_after_it(
    tmp_path: Path, compiled_store: Path, phantom_folder: Path
) -> None:
    study = StudyTemplate.read(phantom_folder).copy("stopping")
    with LightboxServer(folder=tmp_path / "data", store=compiled_store) as server:

        def stop_soon(count: int) -> None:
            if count == 5:
                os.kill(server.pid, signal.SIGTERM)

        address = server.dimse_host, server.dimse_port
        acknowledged = send_until_cut_off(study.instances, address, stop_soon)
        assert server.stop() == 0
    assert acknowledged >= 5
    with LightboxServer(folder=tmp_path / "data", store=compiled_store) as server:
        received = server.client().retrieve(study.study_instance_uid, study.series_instance_uid)
        kept = {str(dcmread(BytesIO(data)).SOPInstanceUID) for data in received}
        assert kept >= {instance.sop_instance_uid for instance in study.instances[:acknowledged]}


def receiver_pid(server: LightboxServer) -> int:
    """The process of the fork server that is in no pool and was there before; 0 if there is none."""
    pools = server.client().status()["pools"]
    workers = {pid for pool in pools.values() for pid in pool["pids"]}
    for pid in process_tree(server.pid):
        children = [child for child in process_tree(pid) if child != pid]
        if pid != server.pid and workers & set(children):
            others = set(children) - workers
            return max(others, default=0)
    return 0


def address_told(server: LightboxServer) -> tuple[str, int]:
    dimse = json.loads((server.data_dir / "server.json").read_text())["dimse"]
    return str(dimse["host"]), int(dimse["port"])


@pytest.mark.parametrize("fixed_port", [True, False], ids=["configured port", "any port"])
def test_a_receiver_that_dies_is_started_again_and_takes_images(
    fixed_port: bool, compiled_store: Path, phantom_folder: Path
) -> None:
    template = StudyTemplate.read(phantom_folder)
    settings = {"LIGHTBOX_COMPLETENESS__TIMEOUT_S": "600"}
    if fixed_port:
        settings["LIGHTBOX_DIMSE__PORT"] = str(free_port())
    with LightboxServer(store=compiled_store, settings=settings) as server:
        client = server.client()
        first, before = receiver_pid(server), address_told(server)
        assert first

        cut_off = template.copy("cut off")

        def kill_at_the_last(count: int) -> None:
            if count == len(cut_off.instances):
                os.kill(first, signal.SIGKILL)

        assert send_until_cut_off(cut_off.instances, before, kill_at_the_last) == len(cut_off.instances)
        wait_until(lambda: not client.is_ready(), "without a receiver it is not ready", deadline_s=5)
        wait_until(client.is_ready, "it is ready again", deadline_s=30)
        second = receiver_pid(server)
        assert second not in (0, first)
        if fixed_port:
            assert address_told(server) == before

        after = template.copy("after")
        assert send_until_cut_off(after.instances, address_told(server)) == len(after.instances)
        for study in (cut_off, after):  # the first one's sender is gone as well, though it never said so
            jobs = ended_jobs(client, study.study_instance_uid, 3)
            assert {job["state"] for job in jobs} == {"COMPLETED"}


def test_a_result_whose_file_is_gone_is_given_up_and_the_server_stays_up(
    compiled_store: Path, phantom_folder: Path
) -> None:
    toml = f"""
[[destinations]]
name = "pacs"
ae_title = "NOBODY"
host = "127.0.0.1"
port = {free_port()}
attempts = 2
backoff_s = 4
"""
    with LightboxServer(store=compiled_store, toml=toml) as server:
        client = server.client()
        send(server, phantom_folder)
        jobs = ended_jobs(client, study_of(phantom_folder), 3)
        for path in (server.data_dir / "results").rglob("*.dcm"):
            path.unlink()
        lungs = next(job for job in jobs if job["pipeline"] == "ct-lungs")
        with pytest.raises(ServerSaid, match="gone from the disk") as said:
            client.result(lungs["id"], "lungs")
        assert said.value.status == 404

        def deliveries() -> list[dict[str, object]]:
            return [delivery for job in jobs for delivery in client.job(job["id"])["deliveries"]]

        wait_until(
            lambda: all(delivery["state"] == "DEAD" for delivery in deliveries()), "deliveries are given up"
        )
        assert len(deliveries()) == 4
        for delivery in deliveries():
            assert "FileNotFoundError" in str(delivery["message"])
            assert str(server.data_dir) not in str(delivery["message"])
        assert client.is_ready()
        again = StudyTemplate.read(phantom_folder).copy("again")
        client.stow([instance.data for instance in again.instances])
        assert {j["state"] for j in ended_jobs(client, again.study_instance_uid, 3)} == {"COMPLETED"}


def test_a_request_may_hold_more_images_than_a_folder(compiled_store: Path, tmp_path: Path) -> None:
    image = ct_dataset()
    image.Modality = "OT"  # nothing is computed on it
    files = [numbered(image, number, tmp_path) for number in range(1, FILES_PER_FOLDER + 4)]
    with LightboxServer(store=compiled_store) as server:
        client = server.client()
        assert len(client.stow(files)["00081199"]["Value"]) == len(files)
        kill(server)
        kept = list((server.data_dir / "spool").rglob("*.dcm"))
        assert len(kept) == len(files)
        assert len({path.parent for path in kept}) == 2
        assert {path.read_bytes() for path in kept} == set(files)


def numbered(image: Dataset, number: int, folder: Path) -> bytes:
    image.InstanceNumber = number
    image.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.1.{number}"
    return written(image, folder / "image.dcm").read_bytes()

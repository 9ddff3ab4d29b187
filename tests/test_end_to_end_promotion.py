"""Promotion as operators use it: a running server follows at once, jobs finish on what they began with."""

import time
from pathlib import Path

from loadtest.client import LightboxClient
from loadtest.server import LightboxServer, lightbox
from loadtest.studies import StudyTemplate
from object_store import open_store
from tests.end_to_end import DEADLINE_S, copy_of_store, ended_jobs

OTHER = """
extends: ct-bones
pipeline: ct-bones
version: "1.1"
title: Bones, another version
"""


def bones_store(compiled: Path, folder: Path) -> Path:
    """A store in which tenant `local` runs ct-bones alone."""
    store = copy_of_store(compiled, folder)
    with open_store(store) as opened:
        for other in ("ct-lungs", "ct-body"):
            opened.names.delete(f"tenant/local/{other}")
    return store


def promoted_plan(client: LightboxClient) -> str:
    return str(client.status()["promoted"][0]["plan"])


def wait_for_plan(client: LightboxClient, *, other_than: str) -> tuple[str, float]:
    """The plan that replaces this one, and after how many seconds it is seen."""
    began = time.monotonic()
    while (plan := promoted_plan(client)) == other_than:
        assert time.monotonic() - began < 10, "the server never followed"
        time.sleep(0.02)
    return plan, time.monotonic() - began


def test_a_running_server_follows_promote_and_rollback_within_a_second(
    tmp_path: Path, compiled_store: Path, phantom_folder: Path
) -> None:
    store = bones_store(compiled_store, tmp_path / "store")
    template = StudyTemplate.read(phantom_folder)

    def plan_used(client: LightboxClient, salt: str) -> str:
        study = template.copy(salt)
        client.stow([instance.data for instance in study.instances])
        (job,) = ended_jobs(client, study.study_instance_uid, 1)
        assert job["state"] == "COMPLETED"
        return str(job["plan"])

    with LightboxServer(folder=tmp_path / "data", store=store) as server:
        client = server.client()
        first = promoted_plan(client)
        assert plan_used(client, "first") == first

        (tmp_path / "other.yaml").write_text(OTHER)
        lightbox("compile", str(tmp_path / "other.yaml"), "--no-measure", "--store", str(store))
        assert promoted_plan(client) == first  # compiling promotes nothing
        lightbox("promote", "ct-bones", "--store", str(store))
        second, seconds = wait_for_plan(client, other_than=first)
        assert seconds < 1.0
        assert plan_used(client, "second") == second

        lightbox("rollback", "ct-bones", "--store", str(store))
        third, seconds = wait_for_plan(client, other_than=second)
        assert seconds < 1.0
        assert third == first
        assert plan_used(client, "third") == first


def test_a_job_finishes_on_the_plan_it_began_with(
    tmp_path: Path, compiled_store: Path, phantom_folder: Path
) -> None:
    store = bones_store(compiled_store, tmp_path / "store")
    (tmp_path / "other.yaml").write_text(OTHER)
    study = StudyTemplate.read(phantom_folder).copy("begun")
    settings = {"LIGHTBOX_POOLS__CPU_THREADS": "1", "LIGHTBOX_POOLS__GIL_PROCESSES": "1"}
    with LightboxServer(folder=tmp_path / "data", store=store, settings=settings) as server:
        client = server.client()
        first = promoted_plan(client)
        client.stow([instance.data for instance in study.instances])
        until = time.monotonic() + DEADLINE_S
        while not client.jobs(study=study.study_instance_uid):
            assert time.monotonic() < until
            time.sleep(0.02)
        lightbox("compile", str(tmp_path / "other.yaml"), "--no-measure", "--store", str(store))
        lightbox("promote", "ct-bones", "--store", str(store))
        wait_for_plan(client, other_than=first)
        (job,) = ended_jobs(client, study.study_instance_uid, 1)
        assert (job["state"], job["plan"]) == ("COMPLETED", first)

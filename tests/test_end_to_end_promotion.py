"""Promotion as operators use it: a running server follows at once, jobs finish on what they began with."""

import json
import subprocess
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from loadtest.client import LightboxClient
from loadtest.server import LightboxServer, lightbox, lightbox_command
from loadtest.studies import StudyTemplate
from object_store import open_store
from planner.live import current_binding
from tests.conftest import CLASSICAL
from tests.end_to_end import (
    DEADLINE_S,
    copy_of_store,
    ended_jobs,
    held_workers,
    jobs_by_pipeline,
    wait_until,
    wait_until_running,
)

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
    with LightboxServer(folder=tmp_path / "data", store=store) as server:
        client = server.client()
        first = promoted_plan(client)
        with held_workers(client):
            client.stow([instance.data for instance in study.instances])
            wait_until_running(client, study.study_instance_uid)
            lightbox("compile", str(tmp_path / "other.yaml"), "--no-measure", "--store", str(store))
            lightbox("promote", "ct-bones", "--store", str(store))
            wait_for_plan(client, other_than=first)
            (running,) = client.jobs(study=study.study_instance_uid)
            assert running["finished_at"] is None
        (job,) = ended_jobs(client, study.study_instance_uid, 1)
        assert (job["state"], job["plan"]) == ("COMPLETED", first)
        seg = dcmread(BytesIO(client.result(job["id"], "bones")), stop_before_pixels=True)
        said = [str(item.get("ContributionDescription", "")) for item in seg.ContributingEquipmentSequence]
        assert any(f"plan {first};" in sentence for sentence in said), said


@pytest.mark.parametrize("change", ["another format", "an unknown operator"])
def test_a_plan_that_cannot_be_used_fails_its_own_jobs_and_nothing_else(
    change: str, tmp_path: Path, compiled_store: Path, phantom_folder: Path
) -> None:
    store = copy_of_store(compiled_store, tmp_path / "store")
    template = StudyTemplate.read(phantom_folder)

    def computed(client: LightboxClient, salt: str) -> dict[str, dict[str, Any]]:
        study = template.copy(salt)
        client.stow([instance.data for instance in study.instances])
        return jobs_by_pipeline(ended_jobs(client, study.study_instance_uid, 3))

    def check(server: LightboxServer, salt: str) -> None:
        jobs = computed(server.client(), salt)
        assert {name: job["state"] for name, job in jobs.items()} == {
            "ct-body": "COMPLETED",
            "ct-bones": "COMPLETED",
            "ct-lungs": "FAILED",
        }
        assert jobs["ct-lungs"]["reason"] == "plan-missing"
        assert jobs["ct-lungs"]["message"]
        assert server.is_running()
        assert server.client().is_ready()

    with LightboxServer(folder=tmp_path / "data", store=store) as server:
        client = server.client()
        before = {promoted["plan"] for promoted in client.status()["promoted"]}
        promote_unusable(store, change)
        wait_until(
            lambda: {promoted["plan"] for promoted in client.status()["promoted"]} != before,
            "the promotion is followed",
            deadline_s=10,
        )
        check(server, "followed")
    with LightboxServer(folder=tmp_path / "data", store=store) as server:
        check(server, "found at the start")
        lightbox("rollback", "ct-lungs", "--store", str(store))
        wait_until(
            lambda: {p["plan"] for p in server.client().status()["promoted"]} == before,
            "the rollback is followed",
            deadline_s=10,
        )
        assert {job["state"] for job in computed(server.client(), "rolled back").values()} == {"COMPLETED"}


def promote_unusable(store: Path, change: str) -> None:
    """Name, for ct-lungs of tenant `local`, what another version of Lightbox may have left."""
    name = "tenant/local/ct-lungs"
    with open_store(store) as opened:
        digest = opened.names.get(name)
        assert digest is not None
        plan = json.loads(opened.objects.get(digest))
        if change == "another format":
            plan["format"] = "lightbox.plan/99"
        else:
            plan["nodes"][0]["operator"] = "of-another-version"
        opened.names.set(name, opened.objects.put(json.dumps(plan).encode()))


def test_of_compiles_at_the_same_time_none_is_lost(tmp_path: Path) -> None:
    store = tmp_path / "store"
    compiling = [
        subprocess.Popen(
            [*lightbox_command(), "compile", name, "--no-measure", "--store", str(store)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for name in CLASSICAL
    ]
    for process in compiling:
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, said.decode()
    with open_store(store) as opened:
        current = current_binding(opened)
    assert current is not None
    assert sorted(current[1].plans.values()) == sorted(CLASSICAL)

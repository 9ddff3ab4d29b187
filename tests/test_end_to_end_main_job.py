"""The main job: a CT series in over either door, segmentations out, common stages run once."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from loadtest.client import LightboxClient
from loadtest.segmentation import dice, read_segmentation
from loadtest.server import LightboxServer
from loadtest.studies import StudyTemplate
from models.phantom import Phantom
from tests.end_to_end import ended_jobs, jobs_by_pipeline, send, study_of


@pytest.fixture(scope="module")
def server(compiled_store: Path) -> Iterator[LightboxServer]:
    with LightboxServer(store=compiled_store) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: LightboxServer) -> LightboxClient:
    return server.client()


def sources_in_order(folder: Path) -> list[str]:
    """SOP Instance UIDs by rising z."""
    headers = [dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    return [str(h.SOPInstanceUID) for h in sorted(headers, key=lambda h: float(h.ImagePositionPatient[2]))]


def test_a_series_sent_by_c_store_comes_back_as_segmentations_that_are_right(
    server: LightboxServer, client: LightboxClient, phantom: Phantom, phantom_folder: Path
) -> None:
    send(server, phantom_folder)
    jobs = jobs_by_pipeline(ended_jobs(client, study_of(phantom_folder), 3))
    assert {job["state"] for job in jobs.values()} == {"COMPLETED"}
    assert {(name, r["output"]) for name, job in jobs.items() for r in job["results"]} == {
        ("ct-lungs", "lungs"),
        ("ct-bones", "bones"),
        ("ct-body", "body"),
        ("ct-body", "composition"),
    }
    sources = sources_in_order(phantom_folder)
    lungs = read_segmentation(client.result(jobs["ct-lungs"]["id"], "lungs"))
    truth = phantom.truth
    for label, name in ((1, "Left lung"), (2, "Right lung")):
        found = lungs.stacked(name, sources, truth.labels.shape[1:])
        assert dice(found, truth.labels == label) > 0.93, name
    volumes = {
        m["segment"]: m["value"]
        for m in jobs["ct-lungs"]["results"][0]["measurements"]
        if m["quantity"] == "volume"
    }
    true_ml = float(np.prod(truth.spacing_mm)) / 1000 * int((truth.labels == 1).sum())
    assert volumes["Left lung"] == pytest.approx(true_ml, rel=0.1)


def test_what_three_pipelines_have_in_common_runs_once(
    server: LightboxServer, client: LightboxClient, phantom_folder: Path
) -> None:
    def runs() -> dict[str, float]:
        samples = client.metrics().get("lightbox_stage_runs_total", {})
        return {dict(labels)["stage"]: value for labels, value in samples.items()}

    before = runs()
    study = StudyTemplate.read(phantom_folder).copy("once")
    client.stow([instance.data for instance in study.instances])
    jobs = ended_jobs(client, study.study_instance_uid, 3)
    after = runs()
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    parts = -(-len(study.instances) // 32)
    assert after["decode"] - before.get("decode", 0) == parts
    assert after["stack"] - before.get("stack", 0) == 1
    used = [stage for job in jobs for stage in client.job(job["id"])["stages"] if stage["name"] == "stack"]
    assert len(used) == 3
    assert sum(stage["shared"] for stage in used) == 2


def test_a_result_is_retrieved_over_dicomweb_as_it_was_stored(
    server: LightboxServer, client: LightboxClient, phantom_folder: Path
) -> None:
    study = StudyTemplate.read(phantom_folder).copy("retrieved")
    client.stow([instance.data for instance in study.instances])
    jobs = jobs_by_pipeline(ended_jobs(client, study.study_instance_uid, 3))
    result = jobs["ct-lungs"]["results"][0]
    (retrieved,) = client.retrieve(
        study.study_instance_uid, result["series_instance_uid"], result["sop_instance_uid"]
    )
    assert retrieved == client.result(jobs["ct-lungs"]["id"], "lungs")
    sent = {instance.sop_instance_uid: instance.data for instance in study.instances}
    everything = client.retrieve(study.study_instance_uid)
    assert len(everything) == len(sent) + 4
    for data in everything:
        header = dcmread(BytesIO(data), stop_before_pixels=True)
        if header.Modality == "CT":
            assert sent.pop(str(header.SOPInstanceUID)) == data
    assert not sent


def test_the_same_series_sent_again_makes_nothing_new(
    server: LightboxServer, client: LightboxClient, phantom_folder: Path
) -> None:
    study = StudyTemplate.read(phantom_folder).copy("twice")
    files = [instance.data for instance in study.instances]
    client.stow(files)
    first = ended_jobs(client, study.study_instance_uid, 3)
    client.stow(files)
    again = ended_jobs(client, study.study_instance_uid, 3)
    assert [job["id"] for job in again] == [job["id"] for job in first]
    assert len(client.retrieve(study.study_instance_uid)) == len(files) + 4


def test_the_server_stops_cleanly_and_leaves_no_memory_behind(
    compiled_store: Path, phantom_folder: Path
) -> None:
    with LightboxServer(store=compiled_store) as running:
        send(running, phantom_folder)
        pid = running.pid
        assert running.stop() == 0
    assert not [f for f in Path("/dev/shm").glob("lightbox-*/pid") if f.read_text() == str(pid)]

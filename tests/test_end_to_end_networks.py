"""A server that cannot import what compiled its networks answers with them, and says how they ran."""

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from loadtest.segmentation import dice, read_segmentation
from loadtest.server import LightboxServer, lightbox
from loadtest.studies import StudyTemplate
from models.phantom import Phantom
from tests.end_to_end import ended_jobs, jobs_by_pipeline
from tests.test_end_to_end_main_job import sources_in_order

PIPELINES = ("ct-lungs-net", "ct-lungs-net-sharp-kernel")

WITHOUT = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    lacking = ("onnx", "openvino", "openvino_telemetry", "torch")
    return None if name.partition(".")[0] in lacking else find(name, path, target)

PathFinder.find_spec = staticmethod(find_spec)
"""
"""As sitecustomize.py: these packages are not installed, for this process and its children."""


@pytest.fixture(scope="module")
def network_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("networks") / "store"
    lightbox("compile", *PIPELINES, "--no-measure", "--store", str(store))
    lightbox("promote", *PIPELINES, "--skip-check", "--store", str(store))
    return store


def test_a_server_without_onnx_openvino_and_torch_answers_with_networks_compiled_elsewhere(
    network_store: Path, tmp_path: Path, phantom: Phantom, phantom_folder: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT, encoding="utf-8")
    study = StudyTemplate.read(phantom_folder).study
    with LightboxServer(store=network_store, settings={"PYTHONPATH": str(tmp_path)}) as server:
        client = server.client()
        client.stow([instance.data for instance in study.instances])
        jobs = jobs_by_pipeline(ended_jobs(client, study.study_instance_uid, len(PIPELINES)))
        assert {name: job["state"] for name, job in jobs.items()} == dict.fromkeys(PIPELINES, "COMPLETED")
        result = client.result(jobs["ct-lungs-net"]["id"], "lungs")
    segmentation = dcmread(BytesIO(result))
    (said,) = {
        item.ContributionDescription
        for item in segmentation.ContributingEquipmentSequence
        if "binding" in item.get("ContributionDescription", "")
    }
    assert said.endswith("networks in onnxruntime fp32")
    found = read_segmentation(result)
    sources = sources_in_order(phantom_folder)
    for label, name in ((1, "Left lung"), (2, "Right lung")):
        mask = found.stacked(name, sources, phantom.truth.labels.shape[1:])
        assert dice(mask, phantom.truth.labels == label) > 0.93, name

"""The parts of the demonstration: what is shared, what is wrong, what a SEG says, and its command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.benches.demo.__main__ import DICE_ABSURD, _problems
from loadtest.benches.demo.results import Result, read_images
from loadtest.benches.demo.sent import TRUTH_OF_SEGMENT, Sent, own_series, phantom
from loadtest.benches.demo.tables import Story, as_json, stage_uses
from loadtest.segmentation import dice, read_segmentation
from models.phantom import SEGMENTS
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return phantom(1, 6, "C-STORE", tmp_path_factory.mktemp("phantom"), salt="test", size=64)


def stage(name: str, runs: int = 1, cpu_s: float = 2.0) -> dict[str, Any]:
    return {"stage": f"id-{name}", "name": name, "pool": "cpu", "runs": runs, "cpu_seconds": cpu_s}


def job(pipeline: str, *stages: dict[str, Any], state: str = "COMPLETED") -> dict[str, Any]:
    return {"id": pipeline, "pipeline": pipeline, "state": state, "message": "why", "stages": list(stages)}


def test_a_stage_that_two_jobs_name_is_one_use_for_both() -> None:
    uses = stage_uses([job("b", stage("decode", 4), stage("x")), job("a", stage("decode", 4))])
    assert [(use.name, use.runs, use.pipelines) for use in uses] == [
        ("decode", 4, ("a", "b")),
        ("x", 1, ("b",)),
    ]


def result(sent: Sent, score: float) -> Result:
    return Result(
        sent=sent,
        job={"pipeline": "ct-lungs", "time_to_result_s": 1.0},
        output="lungs",
        seg_file=Path("a.dcm"),
        sheet_file=Path("a.png"),
        dice={"Left lung": score},
        measurements=(),
    )


def test_a_failed_job_and_an_absurd_dice_are_problems(sent: Sent) -> None:
    story = Story(sent=[sent], jobs={sent.name: [job("ct-lungs", state="FAILED"), job("ct-body")]})
    story.results = [result(sent, DICE_ABSURD - 0.01), result(sent, DICE_ABSURD)]
    assert len(_problems(story)) == 2


def test_a_refusal_is_a_problem_for_a_phantom_and_an_answer_for_anybody_elses_series(sent: Sent) -> None:
    own = Sent("yours-1", "C-STORE", sent.study)
    refused = {one.name: [job("ct-lungs", state="REFUSED")] for one in (sent, own)}
    assert len(_problems(Story(sent=[sent, own], jobs=refused))) == 1


def test_the_story_as_json_names_files_and_no_patient(sent: Sent) -> None:
    told = as_json(Story(sent=[sent], results=[result(sent, 0.9)]), 3.0)
    assert told["received"][0]["images"] == 6
    assert told["results"][0]["dice"] == {"Left lung": 0.9}
    assert "Phantom^" not in str(told)


def test_every_segment_that_is_compared_has_its_truth(sent: Sent) -> None:
    assert {name for names in TRUTH_OF_SEGMENT.values() for name in names} <= set(SEGMENTS)
    body = sent.true_mask("Body")
    assert body is not None
    assert 0.1 < body.mean() < 0.9
    assert sent.true_mask("Spleen") is None


def test_a_folder_is_sorted_into_series_and_other_files_stay(tmp_path: Path, sent: Sent) -> None:
    sent.study.write(tmp_path / "deep" / "er")
    (tmp_path / "README").write_text("not DICOM")
    series, left_out = own_series(tmp_path)
    assert [(one.name, len(one.study.instances)) for one in series] == [("yours-1", 6)]
    assert left_out == 1


def test_images_are_stacked_along_the_slice_normal(sent: Sent) -> None:
    shuffled = Sent(
        "x", "C-STORE", type(sent.study)("1.2", "1.3", tuple(reversed(sent.study.instances))), sent.truth
    )
    images = read_images(shuffled)
    assert images.order == [instance.sop_instance_uid for instance in sent.study.instances]
    assert images.volume.affine[2, 0] > 0  # slices go up


def test_the_masks_of_a_seg_are_read_back_as_they_were_written(sent: Sent) -> None:
    from io import BytesIO

    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    sources = [dcmread(BytesIO(instance.data)) for instance in sent.study.instances]
    truth = sent.true_mask("Left lung")
    assert truth is not None
    description = hd.seg.SegmentDescription(
        1,
        "Left lung",
        codes.SCT.AnatomicalStructure,
        codes.SCT.Lung,
        hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    segmentation = hd.seg.Segmentation(
        sources, truth.astype(np.uint8), hd.seg.SegmentationTypeValues.BINARY, [description],
        hd.UID(), 1, hd.UID(), 1, "x", "x", "1", "1",
    )  # fmt: skip
    buffer = BytesIO()
    segmentation.save_as(buffer)
    masks = read_segmentation(buffer.getvalue())
    uids = [instance.sop_instance_uid for instance in sent.study.instances]
    assert masks.segments == ("Left lung",)
    assert np.array_equal(masks.stacked("Left lung", uids, truth.shape[1:]), truth)


def test_dice_is_one_for_equal_masks_and_for_two_empty_ones() -> None:
    a = np.array([[True, True, False, False]])
    assert dice(a, a) == 1.0
    assert dice(a, ~a) == 0.0
    assert dice(a, np.array([[True, False, False, False]])) == pytest.approx(2 / 3)
    assert dice(a & ~a, a & ~a) == 1.0


def test_the_command_passes_its_exit_code_on_from_the_child() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving.cli.main", "bench", "nothing"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no benchmark 'nothing'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demonstration_sends_by_both_doors_and_gets_what_is_known_to_be_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest.benches.demo", "--slices", "40", "--json"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {series["door"] for series in told["received"]} == {"C-STORE", "STOW-RS"}
    assert {job["state"] for jobs in told["jobs"].values() for job in jobs} == {"COMPLETED"}
    for result in told["results"]:
        assert min(result["dice"].values()) >= DICE_ABSURD
        assert Path(result["seg"]).read_bytes()[128:132] == b"DICM"
        assert Path(result["contact_sheet"]).read_bytes().startswith(b"\x89PNG")
    (decoding,) = [use for use in stage_uses(told["jobs"]["phantom-1"]) if use.name == "decode"]
    assert decoding.pipelines == ("ct-body", "ct-bones", "ct-lungs", "ct-lungs-net")

"""The three classical pipelines share their beginning, and find what is there in phantom and patient."""

from pathlib import Path

import numpy as np
import pytest

from models.operators.base import KernelContext
from models.phantom import PhantomSpec, make_phantom
from models.pipeline import Pipeline, check
from models.pipeline_file import pipeline_path, read_pipeline
from models.values import LabelMap, Measurements, Value, Volume
from tests.imaging_cases import NoResources, dice, grid, series_in, unzipped

CLASSICAL = ("ct-lungs", "ct-bones", "ct-body")
AS_STACKED = ("images", "stacked", "volume")
TRUTH = {"Left lung": (1,), "Right lung": (2,), "Bone": (4,), "Body": (1, 2, 3, 4, 5, 6)} | {
    "Adipose tissue": (5,),
    "Soft tissue": (6,),
}


def bundled(name: str) -> Pipeline:
    return read_pipeline(pipeline_path(name))


def computed(pipeline: Pipeline, known: dict[str, Value]) -> dict[str, Value]:
    """Every step's value, computed here and now; `known` are there already."""
    values = dict(known)
    context = KernelContext(resources=NoResources())
    for name in check(pipeline):
        if name not in values:
            step = pipeline.step(name)
            values[name] = step.operator.apply([values[of] for of in step.inputs], context)
    return values


def of_volume(name: str, volume: Volume) -> dict[str, Value]:
    """A pipeline applied to a volume that lies as `stack` and `reorient` would have it."""
    pipeline = bundled(name)
    restores = {s.name: s.inputs[0] for s in pipeline.steps if s.operator.name == "restore"}
    known: dict[str, Value] = dict.fromkeys(("series", "images", "stacked", "volume"), volume)
    context = KernelContext(resources=NoResources())
    for step_name in check(pipeline):
        if step_name in restores:
            known[step_name] = known[restores[step_name]]
        elif step_name not in known:
            step = pipeline.step(step_name)
            known[step_name] = step.operator.apply([known[of] for of in step.inputs], context)
    return known


def label_map(value: Value) -> LabelMap:
    assert isinstance(value, LabelMap)
    return value


def numbers(value: Value) -> dict[str, float | None]:
    assert isinstance(value, Measurements)
    return {f"{item.segment} {item.quantity}": item.value for item in value.items}


def test_the_three_begin_with_the_same_nine_steps() -> None:
    steps = [bundled(name).steps[:9] for name in CLASSICAL]
    assert steps[0] == steps[1] == steps[2]
    assert [step.operator.name for step in steps[0]][:4] == ["decode", "stack", "reorient", "shrink"]


@pytest.mark.parametrize("name", CLASSICAL)
def test_segments_of_outputs_are_those_of_the_masks_and_say_research_use_only(name: str) -> None:
    pipeline = bundled(name)
    types = check(pipeline)
    for output in pipeline.outputs:
        assert types[output.mask].segments == tuple(segment.name for segment in output.segments)
    assert pipeline.research_use_only
    assert "research use only" in pipeline.description


@pytest.mark.parametrize("emphysema", [0.04, 0.5])
@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("ct-lungs", {"Left lung": 0.97, "Right lung": 0.97}),
        ("ct-bones", {"Bone": 0.78}),
        ("ct-body", {"Body": 0.98, "Adipose tissue": 0.85, "Soft tissue": 0.85}),
    ],
)
def test_a_phantoms_organs_are_found(name: str, smallest: dict[str, float], emphysema: float) -> None:
    spec = PhantomSpec(
        seed=7, slices=48, rows=128, columns=128, spacing_mm=(6.0, 2.8, 2.8), emphysema=emphysema
    )
    phantom = make_phantom(spec)
    values = of_volume(name, phantom.volume)
    found = {}
    for output in bundled(name).outputs:
        mask = label_map(values[output.mask])
        for label, segment in enumerate(mask.segments, start=1):
            found[segment] = dice(mask.labels == label, np.isin(phantom.truth.labels, TRUTH[segment]))
    assert {segment: value >= smallest[segment] for segment, value in found.items()} == dict.fromkeys(
        found, True
    ), found


@pytest.mark.parametrize("name", CLASSICAL)
def test_nothing_there_is_nothing_found(name: str) -> None:
    air = Volume(np.full((6, 32, 32), -1000, np.float32), grid((5.0, 2.0, 2.0)), "[hnsf'U]")
    values = of_volume(name, air)
    for output in bundled(name).outputs:
        assert not label_map(values[output.mask]).labels.any()
        assert output.measurements is not None
        volumes = numbers(values[output.measurements])
        assert [value for key, value in volumes.items() if key.endswith("volume")] == [0.0] * len(
            output.segments
        )


@pytest.mark.filterwarnings("default")
def test_the_lungs_of_a_patient_scanned_feet_first(shared_data: Path, tmp_path: Path) -> None:
    import nibabel

    series = series_in(unzipped(shared_data / "dicom" / "ct-chest-philips.zip", tmp_path))
    values = computed(bundled("ct-lungs"), {"series": series})
    mask, stacked = label_map(values["lungs"]), values["stacked"]
    assert isinstance(stacked, Volume)
    reference = nibabel.load(shared_data / "expected/unet_small_ct_lung/ct-chest-philips_lung_mask.nii.gz")
    truth = np.asarray(reference.dataobj).transpose(2, 1, 0) > 0
    if stacked.affine[2, 0] < 0:
        truth = truth[::-1]
    assert dice(mask.labels > 0, truth) > 0.97
    left = np.argwhere(mask.labels == 1).mean(axis=0)
    right = np.argwhere(mask.labels == 2).mean(axis=0)
    assert (stacked.affine[0, :3] @ (left - right)) > 100  # mm to the patient's left
    measured = numbers(values["numbers"])
    assert (
        650 < (measured["Left lung volume"] or 0) < 760
    )  # the heart is on this side, the liver below the other
    assert 560 < (measured["Right lung volume"] or 0) < 660
    assert -850 < (measured["Left lung mean"] or 0) < -760


def test_a_hollow_head_phantom_has_no_lungs(shared_data: Path, tmp_path: Path) -> None:
    series = series_in(unzipped(shared_data / "dicom" / "ct-head-phantom-philips.zip", tmp_path))
    values = computed(bundled("ct-lungs"), {"series": series})
    assert not label_map(values["lungs"]).labels.any()
    assert numbers(values["numbers"])["Left lung mean"] is None

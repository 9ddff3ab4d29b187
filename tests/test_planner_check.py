"""Golden cases pass when the numbers are right, fail by name when they are not, and are remembered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from models.errors import PipelineError
from models.golden import GoldenCase, golden_case, golden_fields
from models.operators.base import KernelContext, Operator
from models.phantom import SEGMENTS, PhantomSpec, make_phantom, phantom_series
from models.pipeline import Pipeline, SegmentCode, Step
from models.values import LabelMap, Value
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.check import CheckReport, check_plan, recorded_check
from planner.live import compiled_plan
from planner.overlap import Truth, dice
from planner.plan import Node
from planner.stored_series import materialised, store_series
from tests.fake_operators import FAKES, FakeStack, FakeThreshold
from tests.planner_cases import compile_fakes, fake_operator, things

SPEC = PhantomSpec(seed=3, slices=6, rows=40, columns=40, spacing_mm=(40.0, 10.0, 10.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomStack(FakeStack):
    """Gives the phantom itself, whatever was decoded: the kernels here are about numbers, not DICOM."""

    name: ClassVar[str] = "stack"

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        return make_phantom(SPEC).volume


def phantom_operator(node: Node) -> Operator:
    """Found by name in the process that computes the cases, as everything that goes there."""
    return PhantomStack() if node.operator == PhantomStack.name else fake_operator(node)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def bones(dice_at_least: float, voxels: float, tolerance: float) -> Pipeline:
    expect = {
        "thing": {
            "dice": {"Bone": dice_at_least},
            "measurements": {"Bone voxels": {"value": voxels, "tolerance": tolerance}},
        }
    }
    case = golden_case({"phantom": golden_fields(GoldenCase(phantom=SPEC))["phantom"], "expect": expect})
    steps = [
        Step(name="volume", operator=PhantomStack(), inputs=("images",)),
        Step(name="thing", operator=FakeThreshold(above=150.0, label="Bone"), inputs=("volume",)),
    ]
    base = things("bones", steps=steps)
    segment = SegmentCode(name="Bone", category=("1", "SCT", "T"), type=("2", "SCT", "T"))
    return replace(
        base,
        golden=(case,),
        steps=tuple(step for step in base.steps if step.name != "lifted"),
        outputs=tuple(replace(output, segments=(segment,)) for output in base.outputs),
    )


def checked(store: Store, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> tuple[Digest, CheckReport]:
    monkeypatch.setitem(FAKES, "stack", PhantomStack)
    (compiled,) = compile_fakes(store, [pipeline])
    return compiled.digest, check_plan(store, compiled.digest, compiled.plan, phantom_operator)


def test_right_numbers_pass_and_the_report_is_remembered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, report = checked(store, bones(0.3, 100, 1e6), monkeypatch)
    assert report.passed
    assert [finding.what for finding in report.findings] == ["Dice of Bone", "Bone voxels"]
    assert recorded_check(store, digest, compiled_plan(store, "bones")[1]) == report


def test_wrong_numbers_fail_by_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, report = checked(store, bones(1.0, -5, 1), monkeypatch)
    assert not report.passed
    assert [f.split(" is ")[0] for f in report.failures] == [
        "phantom seed 3: thing: Dice of Bone",
        "phantom seed 3: thing: Bone voxels",
    ]


def test_a_plan_never_checked_has_no_report(store: Store) -> None:
    (compiled,) = compile_fakes(store, [things()])
    assert recorded_check(store, compiled.digest, compiled.plan) is None


def test_a_case_survives_its_fields() -> None:
    fields = {
        "phantom": {"seed": 7, "slices": 48, "spacing_mm": [6, 2.8, 2.8]},
        "expect": {
            "body": {
                "dice": {"Body": 0.95},
                "truth": {"Body": list(SEGMENTS)},
                "measurements": {"Body volume": {"value": 2500, "tolerance": 50}},
            }
        },
    }
    case = golden_case(fields)
    assert case.phantom is not None
    assert case.phantom.spacing_mm == (6.0, 2.8, 2.8)
    assert golden_case(golden_fields(case)) == case


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"expect": {"a": {}}}, ""),
        ({"phantom": {"seed": 1}}, "expect"),
        ({"phantom": {"sede": 1}, "expect": {"a": {}}}, "phantom.sede"),
        ({"phantom": {"seed": -1}, "expect": {"a": {}}}, "phantom.seed"),
        ({"phantom": {"seed": 1}, "expect": {"a": {"dise": {}}}}, "expect.a.dise"),
        ({"phantom": {"seed": 1}, "expect": {"a": {"dice": {"X": 2}}}}, "expect.a.dice.X"),
        (
            {"phantom": {"seed": 1}, "expect": {"a": {"measurements": {"v": {"value": 1}}}}},
            "expect.a.measurements.v.tolerance",
        ),
        ({"phantom": {"seed": 1}, "input": "x", "expect": {"a": {}}}, ""),
    ],
)
def test_a_wrong_case_is_an_error_with_its_key(fields: dict[str, Any], key: str) -> None:
    with pytest.raises(PipelineError) as caught:
        golden_case(fields)
    assert caught.value.key == key


def test_dice_is_one_for_the_truth_itself_however_the_grid_runs() -> None:
    phantom = make_phantom(SPEC)
    truth = Truth(phantom.truth.labels, SEGMENTS, phantom.truth.affine)
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SPEC.slices - 1
    turned = LabelMap(phantom.truth.labels[::-1], phantom.truth.affine @ flip, SEGMENTS)
    for mask in (phantom.truth, turned):
        assert dice(mask, "Bone", truth, ("Bone",)) == 1.0
    assert dice(phantom.truth, "Bone", truth, ("Fat",)) == 0.0
    assert dice(phantom.truth, "Bone", truth, ("Nose",)) is None
    sheared = LabelMap(phantom.truth.labels, phantom.truth.affine @ np.diag([2.0, 1, 1, 1]), SEGMENTS)
    assert dice(sheared, "Bone", truth, ("Bone",)) is None


def test_a_stored_series_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    series = phantom_series(SPEC, tmp_path / "series")
    back = materialised(store, store_series(store, tmp_path / "series"), tmp_path / "back")
    assert [i.sop_instance_uid for i in back.images] == [i.sop_instance_uid for i in series.images]
    for ours, theirs in zip(back.images, series.images, strict=True):
        assert Path(ours.path).read_bytes() == Path(theirs.path).read_bytes()

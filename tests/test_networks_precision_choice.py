"""The search for a precision: rungs from fast to exact, and the fastest that passes is chosen."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from planner.networks.building.lift import lifted_structure
from planner.networks.precision import search
from planner.networks.precision.candidates import PrecisionPlan
from planner.networks.precision.gate import Gate
from planner.networks.precision.ladder import ladder
from planner.networks.precision.layers import Level
from planner.networks.precision.mixtures import Mixtures
from planner.networks.precision.search import judge_uniform, plan_precision
from planner.networks.records import Engine
from planner.networks.structure import Opened
from tests.precision_cases import affine_tensors, dilated_network, images, largest, small_unet


def test_the_ladder_falls_in_error_and_rises_in_time_from_fastest_to_fp32() -> None:
    draw = np.random.default_rng(13)
    errors: list[dict[Level, float]] = [
        {"fp32": 0.0, "bf16": float(draw.random()) * 0.01, "int8": float(draw.random()) * 0.1}
        for _ in range(6)
    ]
    seconds: list[dict[Level, float]] = [{"fp32": 1.0, "bf16": 0.5, "int8": 0.25} for _ in range(6)]
    rungs = ladder(errors, seconds)
    assert rungs[0].levels == ("int8",) * 6
    assert rungs[-1].levels == ("fp32",) * 6
    assert all(one.error >= other.error for one, other in pairwise(rungs))
    assert all(one.seconds <= other.seconds for one, other in pairwise(rungs))
    first = max(range(6), key=lambda n: errors[n]["int8"] ** 2 - errors[n]["bf16"] ** 2)
    assert rungs[1].levels[first] != "int8"


def test_a_ladder_of_fp32_alone_has_one_rung() -> None:
    assert [rung.levels for rung in ladder([{"fp32": 0.0}], [{"fp32": 1.0}])] == [("fp32",)]


def planned(network: Opened, shape: tuple[int, ...], **options: Any) -> PrecisionPlan:
    """The search with one image of these sizes to calibrate on and another held out; by the largest class."""
    found: dict[str, Any] = {"calibration": images(1, shape), "held_out": images(1, shape, seed=14)}
    return plan_precision(network.structure, network.tensors, labels=largest, **{**found, **options})


@pytest.fixture
def int8_seems_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is tried, however fast it is on this machine."""

    def told(self: Mixtures, engine: Engine, levels: Sequence[Level]) -> dict[Level, float]:
        return {"fp32": 1.0, **{level: 0.25 if level == "int8" else 0.5 for level in levels}}

    monkeypatch.setattr(Mixtures, "uniform_seconds", told)


EXACT = Gate(least_dice=1.0, mean_dice=1.0, volume_change=0.0, tiny_differing=0)


@pytest.mark.usefixtures("int8_seems_faster")
def test_the_fastest_that_passes_is_chosen_and_everything_tried_is_recorded() -> None:
    unet = small_unet()
    plan = planned(
        unet,
        (64, 64),
        calibration=images(2, (64, 64)),
        gate=Gate(least_dice=0.8, mean_dice=0.8, volume_change=0.5, tiny_differing=50),
        budget_s=60,
    )
    passed = [tried for tried in plan.tried if tried.passed]
    assert "int8" in {tried.precision for tried in passed}
    for name, engines in (("all", {"onnxruntime", "openvino"}), ("onnxruntime", {"onnxruntime"})):
        best = min((t for t in passed if t.engine in engines), key=lambda t: t.seconds or 0)
        assert plan.choices[name].tried == best
    assert ("onnxruntime", "fp32") in {(tried.engine, tried.precision) for tried in passed}
    assert all(tried.refused for tried in plan.tried if not tried.passed)
    assert plan.choices["all"].tried.speed_up >= 1


@pytest.mark.usefixtures("int8_seems_faster")
def test_where_nothing_may_differ_only_fp32_is_left() -> None:
    dilated = dilated_network()
    plan = planned(dilated, (24, 24, 24), gate=EXACT, engines=("onnxruntime",), budget_s=60)
    assert {tried.precision for tried in plan.tried if tried.refused} == {"int8", "mixed"}
    choice = plan.choices["all"]
    assert (choice.tried.engine, choice.tried.precision) == ("onnxruntime", "fp32")
    assert choice.stage.structure.ops == lifted_structure(dilated.structure, dilated.tensors).structure.ops


def test_without_openvino_onnxruntime_is_chosen_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    dilated = dilated_network()
    monkeypatch.setattr(search, "engine_available", lambda engine: engine == "onnxruntime")
    plan = planned(dilated, (16, 16, 16), budget_s=30)
    assert {tried.engine for tried in plan.tried} == {"onnxruntime"}
    assert "openvino is not installed here, so nothing was tried with it" in plan.notes


def test_without_time_fp32_onnxruntime_is_still_chosen() -> None:
    dilated = dilated_network()
    plan = planned(dilated, (16, 16, 16), engines=("onnxruntime",), budget_s=0)
    assert [tried.precision for tried in plan.tried] == ["fp32"]
    assert plan.choices["onnxruntime"].tried.passed


def test_lifted_tensors_of_a_family_are_inputs_of_the_choice() -> None:
    unet = small_unet()
    lifted = affine_tensors(unet)
    plan = planned(unet, (32, 32), lifted=lifted, budget_s=60)
    assert plan.choices.keys() == {"all", "onnxruntime"}
    for choice in plan.choices.values():
        assert {parameter.of for parameter in choice.stage.parameters} == set(lifted)


def test_int8_throughout_is_refused_with_its_figures_where_it_moves_labels() -> None:
    dilated = dilated_network()
    tried = judge_uniform(
        dilated.structure,
        dilated.tensors,
        "onnxruntime",
        "int8",
        calibration=images(1, (24, 24, 24)),
        labels=largest,
        gate=Gate(least_dice=0.999, mean_dice=0.9999),
    )
    assert tried.precision == "int8"
    assert tried.calibration is not None
    assert not tried.passed
    assert "Dice 0." in tried.refused


def test_both_kinds_of_cases_are_needed() -> None:
    dilated = dilated_network()
    with pytest.raises(ValueError, match="at least one calibration case and one held-out case"):
        planned(dilated, (8, 8, 8), calibration=[])
    with pytest.raises(ValueError, match="at least one calibration case and one held-out case"):
        planned(dilated, (8, 8, 8), held_out=[])

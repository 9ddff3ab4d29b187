"""The benchmark of engine and precision: what it reads, and which bars hold for what was measured."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from loadtest.benches import real_networks
from loadtest.benches.figures import as_json
from loadtest.benches.precision import PLANTED, QUICK, findings
from loadtest.benches.real_networks import CT_NETWORKS, NETWORKS, networks
from models.engines.onnxruntime import OnnxSession
from planner.networks.building.lift import Lifted
from planner.networks.precision.candidates import Choice, PrecisionPlan, Tried
from planner.networks.precision.gate import Gate, Verdict
from planner.networks.structure import Structure

STAGE = Lifted(
    Structure(opset=21, inputs=(), outputs=(), tensors={}, constants={}, ops=()), {}, (), items_apart=True
)


def verdict(passed: bool, least: float = 0.995) -> Verdict:
    return Verdict(
        passed=passed,
        least_dice=least,
        mean_dice=0.997,
        volume_change=0.002,
        segments=3,
        tiny=0,
        failures=() if passed else (f"case: segment 2 has Dice {least:.4f}, below 0.99",),
    )


def tried(speed_up: float, *, passed: bool = True) -> Tried:
    found = verdict(passed, 0.995 if passed else 0.74)
    return Tried(
        engine="openvino",
        precision="int8",
        levels=("int8", "int8"),
        method="minmax",
        calibration=found,
        held_out=found if passed else None,
        rounds_s=(1.0, 1.1) if passed else (),
        baseline_rounds_s=(speed_up, speed_up * 1.1) if passed else (),
        refused="" if passed else found.failures[0],
    )


def plain() -> Tried:
    """fp32 onnxruntime, timed a little slower than itself."""
    return Tried(
        engine="onnxruntime",
        precision="fp32",
        levels=("fp32", "fp32"),
        calibration=verdict(True),
        held_out=verdict(True),
        rounds_s=(1.02,),
        baseline_rounds_s=(1.0,),
    )


def plans(gains: Mapping[str, float]) -> dict[str, PrecisionPlan]:
    made = {}
    for name, gain in gains.items():
        fastest = tried(gain) if gain > 1 else plain()
        made[name] = PrecisionPlan(
            gate=Gate(),
            threads=2,
            layers=("v0", "v1"),
            tried=(fastest, plain(), tried(9.0, passed=False)),
            sensitivities=(),
            choices={"all": Choice(fastest, STAGE, {}), "onnxruntime": Choice(plain(), STAGE, {})},
            notes=("openvino: the budget of 50 s ended the search",),
            took_s=12.0,
        )
    return made


GAINS = {"unet_small_ct_lung": 4.0, "ct-lungs-net": 3.5, "model5_gw_ae": 1.0, "model18cls": 2.5}


def test_bars_hold_for_what_was_promised_and_a_network_left_in_fp32_is_not_slower() -> None:
    made = findings(plans(GAINS), tried(9.0, passed=False), 2)
    assert {bar.name: bar.holds for bar in made.bars} == dict.fromkeys((bar.name for bar in made.bars), True)
    assert made.figures["median speed-up"].lightbox == pytest.approx(3.0)
    assert made.figures["median speed-up with onnxruntime alone"].lightbox == 1.0


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({"unet_small_ct_lung": 3.2}, "speed-up of unet_small_ct_lung"),
        ({"ct-lungs-net": 3.2}, "speed-up of ct-lungs-net"),
    ],
)
def test_a_network_below_its_own_bar_fails_it(change: Mapping[str, float], fails: str) -> None:
    made = findings(plans({**GAINS, **change}), tried(9.0, passed=False), 2)
    assert [bar.name for bar in made.bars if not bar.holds] == [fails]


def test_a_median_below_two_fails() -> None:
    made = findings(plans({"a": 1.5, "b": 1.9, "c": 4.0}), tried(9.0, passed=False), 2)
    assert [bar.name for bar in made.bars if not bar.holds] == [
        "median speed-up over fp32 onnxruntime at the gate"
    ]


def test_a_planted_plan_that_the_gate_takes_fails_the_benchmark() -> None:
    made = findings(plans(GAINS), tried(9.0), 2)
    assert [bar.holds for bar in made.bars if "planted" in bar.name] == [False]


def test_the_refused_plan_is_told_with_its_figures_and_what_ended_the_search_too() -> None:
    text = "\n".join(as_json(findings(plans(GAINS), tried(9.0, passed=False), 2))["notes"])
    assert "Dice least 0.7400" in text
    assert "segment 2 has Dice 0.7400, below 0.99" in text
    assert "the budget of 50 s ended the search" in text


def test_every_real_network_is_among_those_measured_and_a_quick_run_has_the_planted_one(
    shared_data: Path,
) -> None:
    there = {path.parent.name for path in shared_data.glob("models/*/model.onnx")}
    assert set(NETWORKS) == there | {"ct-lungs-net"}
    assert PLANTED in QUICK
    assert set(QUICK) & set(CT_NETWORKS)


def test_without_the_real_data_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(real_networks, "DATA", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="are not there"):
        next(networks())


@pytest.mark.parametrize("name", ["model5_gw_ae", "model_11ch_ARC"])
def test_cubes_lie_and_are_scaled_as_the_published_check_says(shared_data: Path, name: str) -> None:
    (network,) = networks((name,))
    with np.load(shared_data / "models" / name / "check.npz") as check:
        box, labels, (low, high) = check["box"], check["labels"], check["norm"]
    volume = real_networks._conformed("M2265_T2w" if name == "model_11ch_ARC" else "t1_crop")
    (left,), (right,) = network.calibration.feeds, network.held_out.feeds
    np.testing.assert_allclose(
        left["x0"][0, 0], ((volume - low) / (high - low))[128:, 24:152, 64:192], atol=1e-6
    )
    assert left["x0"].shape == right["x0"].shape == (1, 1, 128, 128, 128)
    cut = volume[tuple(slice(start, stop) for start, stop in np.reshape(box, (3, 2)))]
    fed = ((cut - low) / (high - low)).astype(np.float32)[None, None]
    session = OnnxSession((shared_data / "models" / name / "model.onnx").read_bytes(), threads=2)
    found = network.labels(session.run({"input": fed}))
    assert np.array_equal(found[0], labels)

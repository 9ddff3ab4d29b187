"""The benchmark of engine and precision: what it reads, and which bars hold for what was measured."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.benches import real_networks
from loadtest.benches.figures import Findings, as_json
from loadtest.benches.networks.agreement import Agreement, agreement
from loadtest.benches.networks.chosen import (
    GATED,
    MOST_ROUNDS,
    NUMBERS,
    PIECES,
    Found,
    as_published,
    found_anew,
)
from loadtest.benches.networks.served import LIFTED, served
from loadtest.benches.precision import PLANTED, QUICK, findings
from loadtest.benches.real_networks import CT_NETWORKS, NETWORKS, RealNetwork, networks, registered
from models.engines.onnxruntime import OnnxSession
from object_store.opening import open_store
from planner.networks.building.lift import Lifted, lifted_structure
from planner.networks.families.members import families
from planner.networks.precision.candidates import Choice, PrecisionPlan, Tried
from planner.networks.precision.cases import Case
from planner.networks.precision.gate import Gate, Verdict
from planner.networks.reading.write import model_bytes, to_onnx
from planner.networks.running.sessions import BuildSession
from planner.networks.structure import Opened, Structure
from tests.canonical_networks import unet

STAGE = Lifted(
    Structure(opset=21, inputs=(), outputs=(), tensors={}, constants={}, ops=()), {}, (), items_apart=True
)


def image_labels(*labels: int) -> NDArray[np.int64]:
    return np.array(labels).reshape(1, 1, -1)


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


AGREEMENTS = {
    GATED: Agreement(inputs=2, equal=0.9993, least=0.9991, verdict=verdict(True)),
    PIECES: Agreement(inputs=10, equal=0.998, least=0.9912, verdict=verdict(True, 0.991)),
    NUMBERS: Agreement(inputs=10, equal=0.61, least=0.5, verdict=verdict(False, 0.3)),
}


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


def anew(
    made: Mapping[str, PrecisionPlan], gains: Mapping[str, float], *, passed: bool = True
) -> dict[str, dict[str, Found]]:
    """What was found of them once more: those with a gain above 1 as fast as it says, others 2 % slower."""

    def of(choice: Choice, gain: float) -> Found:
        ours = (1 / gain if choice.tried.engine == "openvino" else 1.02,)
        return Found(
            tried=choice.tried,
            calibration=verdict(True),
            held_out=verdict(passed),
            rounds_s=ours,
            file_rounds_s=(1.0,),
            agreements={} if as_published(choice.tried) else AGREEMENTS,
        )

    return {name: {k: of(c, gains[name]) for k, c in plan.choices.items()} for name, plan in made.items()}


def found_of(gains: Mapping[str, float], planted: Tried) -> Findings:
    made = plans(gains)
    return findings(made, anew(made, gains), planted, 2)


GAINS = {"unet_small_ct_lung": 4.0, "ct-lungs-net": 3.5, "model5_gw_ae": 1.0, "model18cls": 2.5}


def test_bars_hold_for_what_was_promised_and_a_network_left_in_fp32_is_not_slower() -> None:
    made = found_of(GAINS, tried(9.0, passed=False))
    assert {bar.name: bar.holds for bar in made.bars} == dict.fromkeys((bar.name for bar in made.bars), True)
    assert made.figures["median speed-up"].lightbox == pytest.approx(3.0)
    assert made.figures["median speed-up with onnxruntime alone"].lightbox == pytest.approx(1 / 1.02)


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({"unet_small_ct_lung": 3.2}, "speed-up of unet_small_ct_lung"),
        ({"ct-lungs-net": 3.2}, "speed-up of ct-lungs-net"),
    ],
)
def test_a_network_below_its_own_bar_fails_it(change: Mapping[str, float], fails: str) -> None:
    made = found_of({**GAINS, **change}, tried(9.0, passed=False))
    assert [bar.name for bar in made.bars if not bar.holds] == [fails]


def test_a_median_below_two_fails() -> None:
    made = found_of({"a": 1.5, "b": 1.9, "c": 4.0}, tried(9.0, passed=False))
    assert [bar.name for bar in made.bars if not bar.holds] == [
        "median speed-up over fp32 onnxruntime at the gate"
    ]


def test_a_network_that_was_chosen_as_faster_and_is_slower_when_timed_again_fails() -> None:
    made = plans(GAINS)
    again = anew(made, {**GAINS, "model18cls": 0.9})
    failing = [bar.name for bar in findings(made, again, tried(9.0, passed=False), 2).bars if not bar.holds]
    assert failing == ["least speed-up of the 3 networks that no longer run in fp32 onnxruntime"]


def test_a_choice_that_passed_when_planned_and_does_not_once_more_fails() -> None:
    made = plans(GAINS)
    again = {**anew(made, GAINS), **anew(plans({"model18cls": 2.5}), GAINS, passed=False)}
    (bar,) = (b for b in findings(made, again, tried(9.0, passed=False), 2).bars if not b.holds)
    assert bar.name.startswith("choices that pass the gate on both halves once more")
    assert bar.measured == "6 of 8"


def small_network(folder: Path, siblings: tuple[Opened, ...] = ()) -> RealNetwork:
    opened = replace(unet(3), input_names=("x0",))
    file = folder / "network.onnx"
    file.write_bytes(model_bytes(to_onnx(opened.structure, opened.tensors)))
    images = np.random.default_rng(0).standard_normal((3, 1, 1, 32, 32)).astype(np.float32)
    one, *others = ({"x0": image} for image in images)
    return RealNetwork(
        "network",
        file,
        opened,
        Case("one", (one,)),
        Case("others", tuple(others)),
        lambda outputs: np.asarray(outputs[0].argmax(axis=1)),
        siblings,
    )


def plan_of(choices: Mapping[str, Choice], folded: Choice | None = None) -> PrecisionPlan:
    return PrecisionPlan(Gate(), 1, (), (), (), choices, (), 0.0, folded)


def a_way(stage: Lifted, *, folded: bool, seconds: float) -> Choice:
    """As int8 on onnxruntime, though nothing in it is rounded: what it computes are the stage's numbers."""
    found = Tried(
        engine="onnxruntime",
        precision="int8",
        levels=("int8",),
        calibration=verdict(True),
        held_out=verdict(True),
        rounds_s=(seconds,),
        baseline_rounds_s=(1.0,),
        folded=folded,
    )
    return Choice(found, stage, {})


@pytest.mark.parametrize("wrong", [False, True])
def test_a_choice_is_judged_and_timed_once_more_against_the_file(tmp_path: Path, wrong: bool) -> None:
    network = small_network(tmp_path)
    numbers = unet(4).tensors if wrong else network.opened.tensors
    way = a_way(lifted_structure(network.opened.structure, numbers), folded=True, seconds=0.5)
    found = found_anew(network, plan_of({}, way))["all"]
    assert found.passed is not wrong
    assert len(found.rounds_s) == len(found.file_rounds_s) == MOST_ROUNDS
    assert found.gain > 0
    assert {name: one.inputs for name, one in found.agreements.items()} == {GATED: 3, PIECES: 10, NUMBERS: 10}
    for one in found.agreements.values():
        assert one.equal < 0.9 if wrong else one.equal > 0.9999


def test_what_is_no_faster_than_the_file_is_served_as_the_file_runs_and_compared_as_numbers_elsewhere(
    tmp_path: Path,
) -> None:
    network = small_network(tmp_path)
    slow = a_way(lifted_structure(network.opened.structure, unet(4).tensors), folded=False, seconds=1.1)
    found = found_anew(network, plan_of({"all": slow, "onnxruntime": slow}))
    assert found.keys() == {"all", "onnxruntime"}
    for one in found.values():
        assert one.left_as_it_was
        assert one.passed
        assert not one.agreements


def test_what_is_timed_comes_out_of_the_store_as_tuning_leaves_it_there(tmp_path: Path) -> None:
    sibling = unet(3, norms=1)
    network = small_network(tmp_path, (sibling,))
    structure, tensors = network.opened.structure, network.opened.tensors
    with open_store(tmp_path / "store") as store:
        base = str(registered(store, network.opened, network.siblings))
        lifted = families(store)[base].lifted
        assert lifted
        shared = a_way(lifted_structure(structure, tensors, lifted), folded=False, seconds=0.5)
        own = a_way(lifted_structure(structure, tensors), folded=True, seconds=0.4)
        found = served(store, network, plan_of({"all": shared, "onnxruntime": shared}, own))
        sessions = {which: one.session for which, one in found.items()}
    assert {which: one.tried for which, one in found.items()} == {
        "all": own.tried,
        "onnxruntime": own.tried,
        LIFTED: shared.tried,
    }
    for which, session in sessions.items():
        assert isinstance(session, BuildSession)
        assert session.compiled.build.network == ("" if which == LIFTED else base)
        assert {p.of for p in session.compiled.build.parameters} == (
            set(lifted) if which == LIFTED else set()
        )
        assert session.parameters.keys() == set(session.compiled.parameter_names)


def test_labels_are_counted_over_all_inputs_and_the_worst_is_told() -> None:
    theirs = [image_labels(0, 0, 1, 1), image_labels(2, 2, 2, 2, 2, 2, 2, 2)]
    ours = [image_labels(0, 0, 1, 0), image_labels(2, 2, 2, 2, 2, 2, 2, 2)]
    found = agreement(theirs, ours, Gate(tiny_voxels=0))
    assert (found.inputs, found.equal, found.least) == (2, 11 / 12, 3 / 4)
    assert found.verdict.least_dice == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no input"):
        agreement([], [], Gate())


def test_equal_labels_are_told_of_every_way_that_is_not_the_files_own() -> None:
    said = [note for note in found_of(GAINS, tried(9.0, passed=False)).notes if "labels equal" in note]
    assert [note.partition(":")[0] for note in said] == [
        f"{name}, all, openvino int8" for name, gain in GAINS.items() if gain > 1
    ]
    assert "99.930% of what the gate judged (2 inputs, the worst 99.910%)" in said[0]
    assert "99.800% of pieces of the image (10 inputs, the worst 99.120%, Dice least 0.9910" in said[0]
    assert "61.000% of normal numbers (10 inputs, the worst 50.000%" in said[0]


def test_all_slices_of_the_chest_are_on_one_of_the_halves(shared_data: Path) -> None:
    (network,) = networks(("ct-lungs-net",))
    slices = [sum(len(feed["x0"]) for feed in case.feeds) for case in (network.calibration, network.held_out)]
    assert sum(slices) == len(real_networks._chest()["ct-lungs-net"])
    assert network.lifted  # the normalisations of its variants


def test_a_planted_plan_that_the_gate_takes_fails_the_benchmark() -> None:
    made = found_of(GAINS, tried(9.0))
    assert [bar.holds for bar in made.bars if "planted" in bar.name] == [False]


def test_the_refused_plan_is_told_with_its_figures_and_what_ended_the_search_too() -> None:
    text = "\n".join(as_json(found_of(GAINS, tried(9.0, passed=False)))["notes"])
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

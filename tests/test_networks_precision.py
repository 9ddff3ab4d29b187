"""Engine and precision: gate, calibration, rounding, mixtures of levels in both engines, and the choice."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from planner.networks.building.build import engine_graph
from planner.networks.building.lift import lifted_structure
from planner.networks.precision import search
from planner.networks.precision.bias_correction import boundary_shift, correction
from planner.networks.precision.calibrate import Range, Seen, calibrate, tapped
from planner.networks.precision.candidates import precision_of
from planner.networks.precision.cases import Case, pieces
from planner.networks.precision.gate import Gate, judge, worst
from planner.networks.precision.ladder import ladder
from planner.networks.precision.layers import Level, layers_of
from planner.networks.precision.mixtures import Mixtures
from planner.networks.precision.rounding import bf16_rounded, feedback, rounded
from planner.networks.precision.search import judge_uniform, plan_precision
from planner.networks.precision.trial import error_of, session_of
from planner.networks.reading.opening import open_network
from planner.networks.records import Engine
from planner.networks.structure import Opened
from tests.conftest import absent

Array = NDArray[Any]


def needs(engine: Engine) -> Engine:
    if find_spec(engine) is None:
        absent(f"needs the package {engine}")
    return engine


# -- the gate --------------------------------------------------------------------------------------------


def block(size: int, voxels: int, label: int = 1) -> Array:
    labels = np.zeros(size, np.int32)
    labels[:voxels] = label
    return labels


def test_equal_labels_pass_and_segments_empty_on_both_sides_are_left_out() -> None:
    verdict = judge("case", [block(2000, 500, label=7)], [block(2000, 500, label=7)], Gate())
    assert verdict.passed
    assert (verdict.least_dice, verdict.mean_dice, verdict.volume_change, verdict.segments) == (1, 1, 0, 1)


def test_nothing_on_either_side_passes() -> None:
    verdict = judge("case", [block(100, 0)], [block(100, 0)], Gate())
    assert (verdict.passed, verdict.least_dice, verdict.mean_dice, verdict.segments) == (True, 1, 1, 0)


def test_a_segment_below_the_bar_is_refused_with_its_dice() -> None:
    found = np.roll(block(2000, 500), 20)
    verdict = judge("chest", [block(2000, 500)], [found], Gate())
    assert not verdict.passed
    assert verdict.least_dice == pytest.approx(0.96)
    assert verdict.failures[0] == "chest: segment 1 has Dice 0.9600, below 0.99"


def test_a_volume_off_by_more_than_a_percent_is_refused_even_where_dice_is_high() -> None:
    verdict = judge("case", [block(4000, 1000)], [block(4000, 1012)], Gate(mean_dice=0.99))
    assert verdict.least_dice > 0.99
    assert verdict.failures == ("case: the volume of segment 1 changes by 1.20%, more than 1%",)


def test_the_mean_may_fail_where_no_segment_does() -> None:
    verdict = judge("case", [block(4000, 1000)], [np.roll(block(4000, 1000), 8)], Gate())
    assert verdict.failures == ("case: mean Dice 0.9920 is below 0.995",)


@pytest.mark.parametrize(("voxels", "passes"), [(51, True), (52, True), (53, False)])
def test_a_tiny_segment_is_judged_by_voxels_and_left_out_of_the_mean(voxels: int, passes: bool) -> None:
    verdict = judge("case", [block(1000, 50)], [block(1000, voxels)], Gate())
    assert verdict.passed is passes
    assert (verdict.segments, verdict.tiny, verdict.mean_dice) == (0, 1, 1.0)


def test_a_segment_that_is_not_in_the_reference_is_judged_by_voxels() -> None:
    assert not judge("case", [block(1000, 0)], [block(1000, 3)], Gate()).passed
    assert judge("case", [block(1000, 0)], [block(1000, 2)], Gate()).passed


def test_pieces_of_a_case_are_judged_as_one_image_and_cases_apart() -> None:
    one, other = block(1000, 500), np.roll(block(1000, 500), 10)
    together = judge("case", [one, one], [one, other], Gate(mean_dice=0.99))
    assert together.least_dice == pytest.approx(0.99)
    assert together.passed
    apart = worst([judge("a", [one], [one], Gate()), judge("b", [one], [other], Gate())])
    assert (apart.passed, apart.segments) == (False, 2)
    assert apart.least_dice == pytest.approx(0.98)


# -- rounding --------------------------------------------------------------------------------------------


def test_bf16_rounding_is_that_of_the_type() -> None:
    values = np.random.default_rng(0).normal(size=4000).astype(np.float32) * np.float32(1e3)
    expected = numpy_helper.to_array(
        helper.make_tensor("t", TensorProto.BFLOAT16, values.shape, values.tolist())
    ).astype(np.float32)
    assert np.array_equal(bf16_rounded(values), expected)


def correlated(n: int, inputs: int) -> NDArray[np.float32]:
    draw = np.random.default_rng(1)
    return (
        draw.normal(size=(n, 6)) @ draw.normal(size=(6, inputs)) + 0.1 * draw.normal(size=(n, inputs))
    ).astype(np.float32)


def test_rounding_with_feedback_moves_outputs_less_than_rounding_to_the_nearest() -> None:
    x = correlated(3000, 60)
    matrix = np.random.default_rng(2).normal(size=(12, 60))
    step = 0.05
    nearest = rounded(matrix, None, lambda column: np.rint(column / step) * step)
    better = rounded(matrix, feedback(x), lambda column: np.rint(column / step) * step)
    assert np.allclose(better / step, np.rint(better / step), atol=1e-9)
    assert np.abs((better - matrix) @ x.T).mean() < 0.5 * np.abs((nearest - matrix) @ x.T).mean()


def test_a_filter_already_on_the_grid_is_not_changed() -> None:
    matrix = np.random.default_rng(3).integers(-9, 9, (5, 20)).astype(np.float64)
    assert np.array_equal(rounded(matrix, feedback(correlated(200, 20)), np.rint), matrix)


def test_constant_inputs_have_no_feedback_that_breaks() -> None:
    known = feedback(np.zeros((50, 8), np.float32))
    assert np.isfinite(rounded(np.ones((2, 8)) * 0.4, known, np.rint)).all()


def test_the_bias_makes_up_for_the_mean_shift() -> None:
    x = np.abs(correlated(500, 10))
    exact = np.random.default_rng(4).normal(size=(3, 10)).astype(np.float32)
    coarse, read = np.round(exact, 1).astype(np.float32), np.round(x, 1).astype(np.float32)
    shift = correction(exact, x, coarse, read)
    np.testing.assert_allclose((read @ coarse.T + shift).mean(axis=0), (x @ exact.T).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_a_constant_offset_at_the_borders_is_found(classes: int) -> None:
    logits = np.random.default_rng(5).normal(size=(1, classes, 80, 80)).astype(np.float32)
    offset = np.linspace(0.1, 0.3, classes).astype(np.float32)
    found = boundary_shift([logits], [logits - offset[None, :, None, None]])
    np.testing.assert_allclose(found, offset, atol=1e-5)


# -- calibration -----------------------------------------------------------------------------------------


def test_ranges_hold_zero_and_cut_what_the_method_says() -> None:
    sample = np.append(np.random.default_rng(6).random(50_000), [100.0]).astype(np.float32)
    seen = Seen(float(sample.min()), float(sample.max()), sample)
    assert seen.range("minmax") == Range(0.0, 100.0)
    assert seen.range("percentile").high < 1.1

    def error(ends: Range) -> float:
        return float(np.square(ends.applied(sample) - sample).mean())

    assert error(seen.range("least error")) <= min(
        error(seen.range("minmax")), error(seen.range("percentile"))
    )


def test_uint8_steps_keep_zero_exact() -> None:
    ends = Range(-1.0, 7.3)
    assert ends.applied(np.zeros(1, np.float32))[0] == 0
    values = np.linspace(-1, 7.3, 999, dtype=np.float32)
    assert np.abs(ends.applied(values) - values).max() <= 0.51 * ends.scale


# -- networks made in code -------------------------------------------------------------------------------


def initialiser(name: str, array: Array) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array, np.float32), name)


def saved(path: Path, nodes: Sequence[Any], tensors: Mapping[str, Array], channels: int, axes: int) -> Opened:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, *"abc"[:axes]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", channels, *"abc"[:axes]])],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return open_network(path)


def filters(draw: np.random.Generator, *shape: int) -> Array:
    return np.asarray(draw.normal(size=shape) / np.sqrt(np.prod(shape[1:])))


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """2D: normalisation, pooling, two ways up, concatenation, a strided and a transposed convolution."""
    draw = np.random.default_rng(7)
    tensors = {
        "w0": filters(draw, 8, 1, 3, 3),
        "s": draw.random(8) + 0.5,
        "b": draw.normal(size=8) * 0.1,
        "m": draw.normal(size=8) * 0.1,
        "v": draw.random(8) + 0.5,
        "w1": filters(draw, 16, 8, 3, 3),
        "b1": draw.normal(size=16) * 0.1,
        "w2": filters(draw, 16, 8, 2, 2),
        "w3": filters(draw, 3, 16, 1, 1),
        "b3": np.zeros(3),
        "scales": np.array([1, 1, 2, 2]),
        "w4": filters(draw, 8, 8, 3, 3),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n0"]),
        helper.make_node("Relu", ["n0"], ["r0"]),
        helper.make_node("MaxPool", ["r0"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("ConvTranspose", ["r1", "w2"], ["up"], strides=[2, 2]),
        helper.make_node("Conv", ["r0", "w4"], ["down"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Resize", ["down", "", "scales"], ["wide"], mode="nearest"),
        helper.make_node("Concat", ["up", "wide"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "w3", "b3"], ["y"]),
    ]
    return saved(tmp_path_factory.mktemp("unet") / "m.onnx", nodes, tensors, 3, 2)


@pytest.fixture(scope="module")
def dilated(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """3D: dilated convolutions with Elu, as the brain networks have."""
    draw = np.random.default_rng(8)
    tensors: dict[str, Array] = {}
    nodes, value = [], "x"
    for number, gap in enumerate((1, 2, 1)):
        tensors[f"w{number}"] = filters(draw, 6, 1 if number == 0 else 6, 3, 3, 3) * 1.5
        tensors[f"b{number}"] = draw.normal(size=6) * 0.2
        nodes.append(
            helper.make_node(
                "Conv",
                [value, f"w{number}", f"b{number}"],
                [f"c{number}"],
                pads=[gap] * 6,
                dilations=[gap] * 3,
            )
        )
        nodes.append(helper.make_node("Elu", [f"c{number}"], [f"e{number}"]))
        value = f"e{number}"
    tensors["w"], tensors["bias"] = filters(draw, 3, 6, 1, 1, 1), np.array([0.1, 0.0, -0.1])
    nodes.append(helper.make_node("Conv", [value, "w", "bias"], ["y"]))
    return saved(tmp_path_factory.mktemp("dilated") / "m.onnx", nodes, tensors, 3, 3)


def images(count: int, shape: tuple[int, ...], seed: int = 9) -> list[dict[str, Array]]:
    draw = np.random.default_rng(seed)
    return [{"x0": draw.random((1, 1, *shape), np.float32)} for _ in range(count)]


def largest(outputs: list[Array]) -> Array:
    return np.asarray(outputs[0].argmax(axis=1))


SHAPES = {"unet": (32, 48), "dilated": (12, 14, 16)}


@pytest.fixture(params=["unet", "dilated"])
def opened(request: pytest.FixtureRequest) -> tuple[Opened, tuple[int, ...]]:
    return request.getfixturevalue(request.param), SHAPES[request.param]


def test_patches_times_filter_are_outputs_of_the_convolution(
    opened: tuple[Opened, tuple[int, ...]],
) -> None:
    network, shape = opened
    stage = lifted_structure(network.structure, network.tensors)
    layers = layers_of(stage)
    (feed,) = images(1, shape)
    calibration = calibrate(stage, layers, [], [feed])
    (values,) = tapped(stage, [layer.name for layer in layers], [feed])
    checked = 0
    for layer in layers:
        if layer.name not in calibration.patches:
            assert layer.conv.type == "ConvTranspose"
            continue
        given = calibration.patches[layer.name] @ layer.filter.reshape(len(layer.filter), -1).T + layer.bias
        there = np.sort(values[layer.name][0, 0].ravel())
        places = np.clip(np.searchsorted(there, given[:, 0]), 1, len(there) - 1)
        nearest = np.minimum(np.abs(there[places] - given[:, 0]), np.abs(there[places - 1] - given[:, 0]))
        assert nearest.max() < 1e-4
        checked += 1
    assert checked == 4


def test_pieces_are_cut_from_free_sides_only_and_are_repeatable(dilated: Opened) -> None:
    large = Case("large", tuple(images(2, (80, 70, 60))))
    cut = pieces(dilated.structure, [large], 4)
    assert [piece["x0"].shape for piece in cut] == [(1, 1, 64, 64, 60)] * 4
    again = pieces(dilated.structure, [large], 4)
    assert all(np.array_equal(one["x0"], other["x0"]) for one, other in zip(cut, again, strict=True))
    assert not np.array_equal(cut[0]["x0"], cut[1]["x0"])


# -- mixtures --------------------------------------------------------------------------------------------


def mixtures_of(network: Opened, shape: tuple[int, ...], lifted: Sequence[str] = ()) -> tuple[Mixtures, Any]:
    stage = lifted_structure(network.structure, network.tensors, lifted)
    fixed = {p.name: network.tensors[p.of].reshape(p.shape) for p in stage.parameters}
    feeds = [{**feed, **fixed} for feed in images(3, shape)]
    return Mixtures(stage, feeds, 1, lambda line: None), stage


def moved(mixtures: Mixtures, stage: Any, engine: Engine, levels: Sequence[Level], feed: Any) -> float:
    ours = session_of(mixtures.lowered(engine, levels), engine, 1).run(feed)
    return error_of(ours, session_of(stage, "onnxruntime", 1).run(feed))


@pytest.mark.parametrize(
    ("pattern", "most"),
    [
        (("bf16",), 0.01),
        (("int8",), 0.06),
        (("bf16", "fp32"), 0.01),
        (("int8", "bf16"), 0.06),
        (("fp32", "int8"), 0.06),
        (("bf16", "int8", "fp32"), 0.06),
    ],
)
def test_any_mixture_of_levels_runs_in_openvino_and_stays_near_fp32(
    opened: tuple[Opened, tuple[int, ...]], pattern: tuple[Level, ...], most: float
) -> None:
    mixtures, stage = mixtures_of(*opened)
    levels = [pattern[number % len(pattern)] for number in range(len(mixtures.layers))]
    (feed,) = images(1, opened[1], seed=11)
    error = moved(mixtures, stage, needs("openvino"), levels, feed)
    assert 1e-6 < error < most


@pytest.mark.parametrize("pattern", [("int8",), ("fp32", "int8"), ("int8", "fp32")])
def test_int8_layers_run_in_onnxruntime_and_stay_near_fp32(
    opened: tuple[Opened, tuple[int, ...]], pattern: tuple[Level, ...]
) -> None:
    mixtures, stage = mixtures_of(*opened)
    levels = [pattern[number % len(pattern)] for number in range(len(mixtures.layers))]
    (feed,) = images(1, opened[1], seed=11)
    assert 1e-6 < moved(mixtures, stage, "onnxruntime", levels, feed) < 0.06


def test_onnxruntime_computes_convolutions_in_int8_but_the_last_whose_result_is_float(
    unet: Opened, tmp_path: Path
) -> None:
    import onnxruntime as ort

    mixtures, _ = mixtures_of(unet, SHAPES["unet"])
    stage = mixtures.lowered("onnxruntime", ["int8"] * len(mixtures.layers))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    options.log_severity_level = 4
    parts = engine_graph(stage)
    assert not parts.large
    ort.InferenceSession(parts.graph, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3
    assert kinds.count("Conv") + kinds.count("FusedConv") == 1


def test_equal_arguments_give_equal_bytes(dilated: Opened) -> None:
    graphs = []
    for _ in range(2):
        mixtures, _ = mixtures_of(dilated, SHAPES["dilated"])
        levels: list[Level] = ["bf16", "int8", "fp32", "int8"]
        graphs.append(engine_graph(mixtures.lowered("onnxruntime", ["int8", "fp32", "int8", "int8"])).graph)
        assert precision_of(tuple(levels)) == "mixed"
    assert graphs[0] == graphs[1]


def affine_tensors(network: Opened) -> list[str]:
    """The scales and offsets behind the first convolution."""
    uses = [op for op in network.structure.ops if op.type in ("Mul", "Add")]
    return [next(name for name in op.inputs if name in network.structure.tensors) for op in uses[:2]]


@pytest.mark.parametrize(("level", "most"), [("bf16", 0.02), ("int8", 0.06)])
def test_lifted_tensors_stay_inputs_and_serve_another_variant(
    unet: Opened, level: Level, most: float
) -> None:
    engine = needs("openvino")
    lifted = affine_tensors(unet)
    mixtures, stage = mixtures_of(unet, SHAPES["unet"], lifted)
    made = mixtures.lowered(engine, [level] * len(mixtures.layers))
    assert made.parameters == stage.parameters
    assert {parameter.of for parameter in made.parameters} == set(lifted)
    (feed,) = images(1, SHAPES["unet"], seed=12)
    other = {p.name: unet.tensors[p.of].reshape(p.shape) * np.float32(1.1) for p in stage.parameters}
    ours = session_of(made, engine, 1).run({**feed, **other})
    theirs = session_of(stage, "onnxruntime", 1).run({**feed, **other})
    base = session_of(stage, "onnxruntime", 1).run(
        {**feed, **{p.name: unet.tensors[p.of].reshape(p.shape) for p in stage.parameters}}
    )
    assert error_of(ours, theirs) < most < error_of(base, theirs) + most
    assert error_of(base, theirs) > 0.01


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
    first = max(
        range(6),
        key=lambda n: errors[n]["int8"] ** 2 - min(e for k, e in errors[n].items() if k == "bf16") ** 2,
    )
    assert rungs[1].levels[first] != "int8"


def test_a_ladder_of_fp32_alone_has_one_rung() -> None:
    assert [rung.levels for rung in ladder([{"fp32": 0.0}], [{"fp32": 1.0}])] == [("fp32",)]


# -- the choice ------------------------------------------------------------------------------------------

EXACT = Gate(least_dice=1.0, mean_dice=1.0, volume_change=0.0, tiny_differing=0)


def test_the_fastest_that_passes_is_chosen_and_everything_tried_is_recorded(unet: Opened) -> None:
    plan = plan_precision(
        unet.structure,
        unet.tensors,
        calibration=images(2, (64, 64)),
        held_out=images(1, (64, 64), seed=14),
        labels=largest,
        gate=Gate(least_dice=0.8, mean_dice=0.8, volume_change=0.5, tiny_differing=50),
        budget_s=60,
    )
    passed = [tried for tried in plan.tried if tried.passed]
    for name, engines in (("all", {"onnxruntime", "openvino"}), ("onnxruntime", {"onnxruntime"})):
        best = min((t for t in passed if t.engine in engines), key=lambda t: t.seconds or 0)
        assert plan.choices[name].tried == best
    assert ("onnxruntime", "fp32") in {(tried.engine, tried.precision) for tried in passed}
    assert all(tried.refused for tried in plan.tried if not tried.passed)
    assert plan.choices["all"].tried.speed_up >= 1


def test_where_nothing_may_differ_only_fp32_is_left(dilated: Opened) -> None:
    plan = plan_precision(
        dilated.structure,
        dilated.tensors,
        calibration=images(1, (24, 24, 24)),
        held_out=images(1, (24, 24, 24), seed=15),
        labels=largest,
        gate=EXACT,
        engines=("onnxruntime",),
        budget_s=60,
    )
    choice = plan.choices["all"]
    assert (choice.tried.engine, choice.tried.precision) == ("onnxruntime", "fp32")
    assert choice.stage.structure.ops == lifted_structure(dilated.structure, dilated.tensors).structure.ops


def test_without_openvino_onnxruntime_is_chosen_and_it_is_said(
    dilated: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "engine_available", lambda engine: engine == "onnxruntime")
    plan = plan_precision(
        dilated.structure,
        dilated.tensors,
        calibration=images(1, (16, 16, 16)),
        held_out=images(1, (16, 16, 16), seed=15),
        labels=largest,
        budget_s=30,
    )
    assert {tried.engine for tried in plan.tried} == {"onnxruntime"}
    assert "openvino is not installed here, so nothing was tried with it" in plan.notes


def test_without_time_fp32_onnxruntime_is_still_chosen(dilated: Opened) -> None:
    plan = plan_precision(
        dilated.structure,
        dilated.tensors,
        calibration=images(1, (16, 16, 16)),
        held_out=images(1, (16, 16, 16), seed=15),
        labels=largest,
        engines=("onnxruntime",),
        budget_s=0,
    )
    assert [tried.precision for tried in plan.tried] == ["fp32"]
    assert plan.choices["onnxruntime"].tried.passed


def test_lifted_tensors_of_a_family_are_inputs_of_the_choice(unet: Opened) -> None:
    lifted = affine_tensors(unet)
    plan = plan_precision(
        unet.structure,
        unet.tensors,
        calibration=images(1, (32, 32)),
        held_out=images(1, (32, 32), seed=14),
        labels=largest,
        lifted=lifted,
        budget_s=60,
    )
    for choice in plan.choices.values():
        assert {parameter.of for parameter in choice.stage.parameters} == set(lifted)


def test_int8_throughout_is_refused_with_its_figures_where_it_moves_labels(dilated: Opened) -> None:
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


def test_both_kinds_of_cases_are_needed(dilated: Opened) -> None:
    with pytest.raises(ValueError, match="at least one calibration case and one held-out case"):
        plan_precision(
            dilated.structure, dilated.tensors, calibration=[], held_out=images(1, (8, 8, 8)), labels=largest
        )

"""Any mixture of levels, layer by layer, runs in the engines and stays near fp32."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from planner.networks.building.build import engine_graph
from planner.networks.building.lift import lifted_structure
from planner.networks.precision.calibrate import calibrate, tapped
from planner.networks.precision.candidates import precision_of
from planner.networks.precision.cases import Case, pieces
from planner.networks.precision.layers import Level, layers_of
from planner.networks.precision.mixtures import Mixtures
from planner.networks.precision.trial import error_of, session_of
from planner.networks.records import Engine
from planner.networks.structure import Opened
from tests.engines import needs
from tests.precision_cases import NETWORKS, SHAPES, affine_tensors, dilated_network, images, small_unet


@pytest.fixture(params=["unet", "dilated"])
def opened(request: pytest.FixtureRequest) -> tuple[Opened, tuple[int, ...]]:
    return NETWORKS[request.param](), SHAPES[request.param]


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


def test_pieces_are_cut_from_free_sides_only_and_are_repeatable() -> None:
    dilated = dilated_network()
    large = Case("large", tuple(images(2, (80, 70, 60))))
    cut = pieces(dilated.structure, [large], 4)
    assert [piece["x0"].shape for piece in cut] == [(1, 1, 64, 64, 60)] * 4
    again = pieces(dilated.structure, [large], 4)
    assert all(np.array_equal(one["x0"], other["x0"]) for one, other in zip(cut, again, strict=True))
    assert not np.array_equal(cut[0]["x0"], cut[1]["x0"])


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


def test_onnxruntime_computes_convolutions_in_int8_but_the_last_whose_result_is_float(tmp_path: Path) -> None:
    unet = small_unet()
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


def test_equal_arguments_give_equal_bytes() -> None:
    dilated = dilated_network()

    def graph(*levels: Level) -> bytes:
        mixtures, _ = mixtures_of(dilated, SHAPES["dilated"])
        return engine_graph(mixtures.lowered("onnxruntime", levels)).graph

    mixed: tuple[Level, ...] = ("int8", "fp32", "int8", "int8")
    assert graph(*mixed) == graph(*mixed)
    assert graph(*mixed) != graph("int8", "int8", "fp32", "int8")
    assert precision_of(mixed) == "mixed"


@pytest.mark.parametrize(("level", "most"), [("bf16", 0.02), ("int8", 0.06)])
def test_lifted_tensors_stay_inputs_and_serve_another_variant(level: Level, most: float) -> None:
    unet = small_unet()
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
    own = {p.name: unet.tensors[p.of].reshape(p.shape) for p in stage.parameters}
    base = session_of(stage, "onnxruntime", 1).run({**feed, **own})
    assert error_of(ours, theirs) < most
    assert error_of(ours, theirs) < 0.5 * error_of(base, theirs)

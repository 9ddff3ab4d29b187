"""A network that its step cannot run is an error of compiling that names the setting; so is one with NaN."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.errors import PipelineError
from models.operators.network import Network
from object_store.opening import Store
from planner.networks.errors import NetworkRefused
from planner.networks.fits import misfit
from planner.networks.reading.opening import open_network
from tests.networks import unet
from tests.networks_in_pipelines import compiled, with_network


@pytest.fixture
def store(tmp_path: Path) -> Any:
    from object_store.opening import open_store

    with open_store(tmp_path / "store") as opened:
        yield opened


def convolution(
    fed: list[Any], classes: int = 3, *, bad: float | None = None, name: str = "w"
) -> onnx.ModelProto:
    """One 1x1 convolution over what is fed, [n, channels, ...]."""
    spatial = len(fed) - 2
    numbers = np.random.default_rng(0).normal(size=(classes, fed[1], *[1] * spatial)).astype(np.float32)
    if bad is not None:
        numbers.reshape(-1)[1] = bad
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", name], ["y"])],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, fed)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [fed[0], classes, *fed[2:]])],
        [numpy_helper.from_array(numbers, name)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def written(folder: Path, model: onnx.ModelProto, name: str = "net") -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


FREE = ["n", 1, "h", "w"]


@pytest.mark.parametrize(
    ("model", "changes", "setting", "words"),
    [
        (convolution(FREE, 1), {}, "segments", "gives 1 classes; 2 segments need 3, the background"),
        (convolution(FREE, 5), {}, "segments", "gives 5 classes"),
        (convolution(["n", 4, "h", "w"]), {}, "graph", "takes 4 channels"),
        (convolution([1, 1, "h", "w"]), {}, "batch", "batch must be 1"),
        (convolution(["n", 1, "d", "h", "w"]), {}, "mode", "feeds 4 axes"),
        (convolution(FREE), {"mode": "whole"}, "mode", "feeds 5 axes"),
        (
            convolution(["n", 1, 32, 32, 32]),
            {"mode": "sliding_window", "patch": (32, 64, 32)},
            "patch",
            r"\[any, 1, 32, 32, 32\]",
        ),
    ],
)
def test_what_the_step_cannot_run_is_named_when_it_is_compiled(
    store: Store, tmp_path: Path, model: onnx.ModelProto, changes: dict[str, Any], setting: str, words: str
) -> None:
    usual = {"multiple_of": 1, "mode": "slices", "batch": 4}
    with pytest.raises(PipelineError, match=words) as caught:
        compiled(store, with_network(written(tmp_path, model), **{**usual, **changes}))
    assert caught.value.key == f"steps.net.{setting}"
    assert store.names.items() == {}


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (convolution(FREE), {}),
        (convolution([1, 1, "h", "w"]), {"batch": 1}),
        (convolution(["n", 1, 32, 32, 32]), {"mode": "sliding_window", "patch": (32, 32, 32)}),
    ],
)
def test_what_fits_is_compiled(
    store: Store, tmp_path: Path, model: onnx.ModelProto, changes: dict[str, Any]
) -> None:
    usual = {"multiple_of": 1, "mode": "slices", "batch": 4}
    (made,) = compiled(store, with_network(written(tmp_path, model), **{**usual, **changes}))
    assert made.new


@pytest.mark.parametrize(("classes", "fits"), [(1, True), (2, True), (3, False)])
def test_one_segment_takes_one_class_or_two(tmp_path: Path, classes: int, fits: bool) -> None:
    opened = open_network(written(tmp_path, convolution(FREE, classes)))
    found = misfit(Network(graph="net.onnx", segments=("one",), mode="slices"), opened)
    assert (found is None) is fits
    assert fits or found == (
        "segments",
        "the graph gives 3 classes; one segment needs 1, or 2 with the background first",
    )


def test_a_network_with_nan_is_refused_by_the_name_of_the_tensor(tmp_path: Path) -> None:
    bad = written(tmp_path, convolution(FREE, bad=float("nan"), name="filter"))
    with pytest.raises(NetworkRefused, match="tensor 'filter' holds NaN") as caught:
        open_network(bad)
    assert caught.value.reason == "not-a-number"


def test_a_variant_with_nan_is_refused_as_well(tmp_path: Path) -> None:
    path = written(tmp_path, convolution(FREE, name="filter"))
    with pytest.raises(NetworkRefused, match="tensor 'filter' holds NaN"):
        open_network(path, {"filter": np.full((3, 1, 1, 1), np.nan, np.float32)})


def test_infinities_are_no_nan_even_where_they_cancel(tmp_path: Path) -> None:
    model = unet(3)
    name = next(tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 4)
    shape = next(tuple(t.dims) for t in model.graph.initializer if t.name == name)
    numbers = np.zeros(shape, np.float32)
    numbers.reshape(-1)[:2] = np.inf, -np.inf
    open_network(written(tmp_path, model), {name: numbers})

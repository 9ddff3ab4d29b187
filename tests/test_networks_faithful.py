"""A canonical form is taken for a network only where its outputs are those of the author's file."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from planner.networks.reading.faithful import difference, faithful
from planner.networks.reading.opening import open_network
from planner.networks.structure import Opened
from tests.conftest import REPOSITORY
from tests.generated_networks import Recipe, recipes, written
from tests.networks import meshnet, saved, unet

Array = NDArray[Any]
ZOO = REPOSITORY / "models" / "zoo"


def without_padding(opened: Opened, place: int) -> Opened:
    """As a pass would leave it that forgets the padding of one convolution and moves it elsewhere."""
    ops = list(opened.structure.ops)
    windows = [n for n, op in enumerate(ops) if "pads" in op.attributes]
    op = ops[windows[place]]
    sides = len(op.attributes["pads"]) // 2
    total = [a + b for a, b in zip(op.attributes["pads"][:sides], op.attributes["pads"][sides:], strict=True)]
    moved = {**op.attributes, "pads": [0] * sides + total}
    ops[windows[place]] = msgspec.structs.replace(op, attributes=moved)
    return Opened(
        msgspec.structs.replace(opened.structure, ops=tuple(ops)),
        opened.tensors,
        opened.input_names,
        opened.output_names,
    )


@pytest.mark.parametrize("make", [unet, meshnet])
def test_a_canonical_form_that_computes_what_the_file_does_is_faithful(make: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, make(0))
    opened = open_network(path)
    assert faithful(path, opened) is None
    assert faithful(path.read_bytes(), opened) is None


@pytest.mark.parametrize("place", [0, -1])
def test_padding_on_the_other_side_is_a_difference(place: int, tmp_path: Path) -> None:
    path = saved(tmp_path, unet(0))
    found = faithful(path, without_padding(open_network(path), place))
    assert found is not None
    assert found.largest > found.allowed
    assert "outputs differ" in str(found)


def test_one_number_that_is_off_by_a_thousandth_is_a_difference(tmp_path: Path) -> None:
    path = saved(tmp_path, unet(0))
    opened = open_network(path)
    name = next(name for name, kind, _ in opened.typed_tensors() if len(kind.shape) == 4)
    other = opened.tensors[name].copy()
    other.flat[0] += 1e-3 * np.abs(other).max()
    wrong = Opened(opened.structure, {**opened.tensors, name: other}, opened.input_names, opened.output_names)
    assert faithful(path, wrong) is not None


def test_axes_that_were_mistaken_for_each_other_show(tmp_path: Path) -> None:
    """On square images both would give the same shape, and on symmetric filters the same numbers."""
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[0, 1, 3, 2])
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, one, other])
        for name, one, other in (("x", "h", "w"), ("y", "w", "h"))
    ]
    model = helper.make_model(
        helper.make_graph([node], "g", ports[:1], ports[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    path = saved(tmp_path, model)
    opened = open_network(path)
    assert faithful(path, opened) is None
    (op,) = opened.structure.ops
    idle = msgspec.structs.replace(op, attributes={"perm": [0, 1, 2, 3]})
    wrong = msgspec.structs.replace(opened.structure, ops=(idle,))
    assert faithful(path, Opened(wrong, {}, opened.input_names, opened.output_names)) is not None


@pytest.mark.parametrize("variant", ["low-dose", "thick-slices"])
def test_a_variant_is_compared_with_the_file_under_its_numbers(variant: str) -> None:
    path = ZOO / "ct-lungs-net.onnx"
    overrides = dict(np.load(ZOO / f"ct-lungs-net-{variant}.npz"))
    opened = open_network(path, overrides)
    assert faithful(path, opened, overrides) is None
    assert faithful(path, opened) is not None


@given(recipes(), st.sampled_from([0, 3]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_generated_network_is_taken_for_another(tmp_path: Path, recipe: Recipe, site: int) -> None:
    path = saved(tmp_path, written(recipe, site=site))
    assert faithful(path, open_network(path)) is None


def test_tensors_beside_the_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(unet(0), path, save_as_external_data=True, location="numbers.bin", size_threshold=256)
    assert faithful(path, open_network(path)) is None


def test_a_network_that_gives_no_finite_number_is_not_shown_to_be_faithful(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "s"], ["y"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    factors = numpy_helper.from_array(np.full(2, np.inf, np.float32), "s")
    model = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], [factors]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    path = saved(tmp_path, model)
    found = faithful(path, open_network(path))
    assert found is not None
    assert found.runs == 0


def test_a_real_network_is_faithful_though_it_amplifies_rounding(shared_data: Path) -> None:
    """On small inputs this file differs from itself by 3e-3, optimised or not."""
    path = shared_data / "models" / "unet_small_ct_lung" / "model.onnx"
    opened = open_network(path)
    assert faithful(path, opened) is None
    assert faithful(path, without_padding(opened, 0)) is not None


@pytest.mark.parametrize(
    ("output", "wanted", "apart"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.nan], [1.0, 0.0], np.inf),
        ([1.0, 0.0], [1.0, np.nan], np.inf),
        ([-np.inf], [np.inf], np.inf),
        ([], [], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1e-45, 0.0], [0.0, 0.0], 1.2e-7),
        ([1.0, 2.0, 3.0], [1.0, 2.0], np.inf),
    ],
)
def test_difference_is_relative_to_the_largest_magnitude(
    output: list[float], wanted: list[float], apart: float
) -> None:
    assert difference(np.array(output, np.float32), np.array(wanted, np.float32)) == pytest.approx(
        apart, rel=0.1
    )


def test_whole_numbers_may_differ_in_one_of_a_thousand_places() -> None:
    wanted = np.zeros(2000, np.int64)
    output = wanted.copy()
    output[:2] = 7
    assert difference(output, wanted) == pytest.approx(1e-5)
    assert difference(output.astype(np.int32), wanted) == np.inf

"""Reading ONNX files: every way of writing a network is taken, and what is not understood says why."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from planner.networks.errors import NetworkRefused, NotOpenable
from planner.networks.reading.opening import open_network
from planner.networks.reading.write import to_onnx
from tests.hostile_networks import with_external
from tests.networks import image, largest_difference, run, saved, unet
from tests.written_graphs import model_of, node


def loop_model() -> onnx.ModelProto:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node("Relu", ["x"], [name])], name, [], [out])

    test = numpy_helper.from_array(np.array(True), "c")
    both = {"then_branch": branch("a"), "else_branch": branch("b")}
    model = model_of([node("If", ["c"], ["y"], **both)])
    model.graph.initializer.append(test)
    return model


NOT_OPENABLE: dict[str, tuple[onnx.ModelProto, str]] = {
    "control flow": (loop_model(), "control-flow"),
    "an operator of another domain": (
        model_of([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]),
        "custom-operator",
    ),
    "an operator nobody knows": (model_of([node("Frobnicate", ["x"], ["y"])]), "custom-operator"),
    "sequences": (
        model_of([node("SequenceConstruct", ["x"], ["s"]), node("SequenceLength", ["s"], ["y"])]),
        "sequence",
    ),
    "chance": (model_of([node("RandomNormalLike", ["x"], ["y"])]), "random"),
    "an opset too old": (model_of([node("Relu", ["x"], ["y"])], opset=9), "unknown-opset"),
    "an opset too new": (model_of([node("Relu", ["x"], ["y"])], opset=99), "unknown-opset"),
    "text": (
        model_of([node("Constant", [], ["s"], value_string="a"), node("Add", ["x", "s"], ["y"])]),
        "data-type",
    ),
}


@pytest.mark.parametrize("case", NOT_OPENABLE)
def test_what_is_fine_but_not_understood_stays_closed_and_says_why(case: str, tmp_path: Path) -> None:
    model, reason = NOT_OPENABLE[case]
    with pytest.raises(NotOpenable) as closed:
        open_network(saved(tmp_path, model))
    assert closed.value.reason == reason


@pytest.mark.parametrize("beside", ["weights.bin", "deeper/weights.bin"])
def test_external_data_gives_the_same_network(beside: str, tmp_path: Path) -> None:
    model = unet(2)
    inside = open_network(saved(tmp_path, model))
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    onnx.save_model(
        model,
        str(tmp_path / "outside.onnx"),
        save_as_external_data=True,
        location=beside,
        size_threshold=0,
    )
    outside = open_network(tmp_path / "outside.onnx")
    assert outside.structure.to_bytes() == inside.structure.to_bytes()
    for name, _, value in inside.typed_tensors():
        np.testing.assert_array_equal(outside.tensors[name], value)


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (tmp_path / "w.bin").symlink_to("real.bin")
    opened = open_network(with_external(tmp_path, "w.bin"))
    np.testing.assert_array_equal(opened.tensors["t0"], np.arange(8, dtype=np.float32))


def test_tensors_may_be_written_in_typed_fields(tmp_path: Path) -> None:
    model = unet(2)
    raw_model = open_network(saved(tmp_path, model))
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(value.ravel().tolist())
    typed = open_network(saved(tmp_path, model))
    assert typed.structure.to_bytes() == raw_model.structure.to_bytes()
    for name, _, value in raw_model.typed_tensors():
        np.testing.assert_array_equal(typed.tensors[name], value)


def test_large_tensors_are_not_copied(tmp_path: Path) -> None:
    opened = open_network(saved(tmp_path, unet(0, (32, 64))))
    large = [value for _, kind, value in opened.typed_tensors() if kind.nbytes >= 64 * 1024]
    assert large
    assert not any(value.flags.owndata or value.flags.writeable for value in large)


def overridable() -> onnx.ModelProto:
    """Normalisation tensors are inputs with defaults, as a network of the zoo has them."""
    model = unet(4)
    for tensor in model.graph.initializer:
        if ".norm." in tensor.name:
            port = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims))
            model.graph.input.append(port)
    return model


def test_an_input_with_a_default_is_a_tensor_and_no_input(tmp_path: Path) -> None:
    opened = open_network(saved(tmp_path, overridable()))
    assert opened.input_names == ("input",)
    assert opened.structure.to_bytes() == open_network(saved(tmp_path, unet(4))).structure.to_bytes()


def test_overrides_make_the_variant_that_onnxruntime_runs_with_them(tmp_path: Path) -> None:
    model, other = overridable(), unet(4, norm_seed=99)
    overrides = {t.name: numpy_helper.to_array(t) for t in other.graph.initializer if ".norm." in t.name}
    opened = open_network(saved(tmp_path, model), overrides)
    feeds = image(other, 0)
    ours = run(to_onnx(opened.structure, opened.tensors), {"x0": feeds["input"]})
    assert largest_difference(ours, run(model, {**feeds, **overrides})) < 1e-5
    assert largest_difference(ours, run(model, feeds)) > 1e-2


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"down0.0.norm.nothing": np.zeros(8, np.float32)}, "unknown-tensor"),
        ({"down0.0.norm.mean": np.zeros(9, np.float32)}, "wrong-shape"),
        ({"down0.0.norm.mean": np.zeros(8, np.float64)}, "wrong-shape"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(
    overrides: dict[str, NDArray[Any]], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(NetworkRefused, match=r"norm") as refused:
        open_network(saved(tmp_path, overridable()), overrides)
    assert refused.value.reason == reason


def test_local_functions_are_written_out(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["m"]), helper.make_node("Neg", ["m"], ["b"])]
    function = helper.make_function("local", "f", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    calls = [helper.make_node("f", ["x"], ["v"], domain="local"), node("Exp", ["v"], ["y"])]
    opened = open_network(saved(tmp_path, model_of(calls, functions=[function])))
    assert [op.type for op in opened.structure.ops] == ["Relu", "Neg", "Exp"]

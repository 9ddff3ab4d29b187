"""Canonical form where it is easily wrong.

Nearly each of these networks once computed something else, or had a digest that depended on the machine or
on how the file was written.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import planner.networks.reading.opening as opening
from object_store.digest import Digest
from planner.networks.errors import NetworkRefused, NotOpenable
from planner.networks.keeping import large_tensors, raw_bytes, record_objects
from planner.networks.reading.canonical.evaluate import FUNCTIONS, evaluate
from planner.networks.reading.canonical.graph import Node
from planner.networks.reading.canonical.ties import compared
from planner.networks.reading.faithful import faithful
from planner.networks.reading.write import to_onnx
from tests.canonical_cases import opened_as
from tests.networks import largest_difference, meshnet, run, unet
from tests.written_graphs import Array, model_of

X = np.random.default_rng(0).standard_normal((1, 2, 9, 9)).astype(np.float32)
FREE = ("n", 2, "h", "w")
network = partial(model_of, shape=FREE)


def op(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(","), outputs.split(","), **attributes)


def digest_of(model: onnx.ModelProto, folder: Path) -> Digest:
    opened = opened_as(model, folder)
    weights = {name: Digest.of(raw_bytes(array)) for name, array in large_tensors(opened).items()}
    return record_objects(opened, weights)[0]


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


SAME_POOL = op(
    "AveragePool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", count_include_pad=1
)
HIGHEST = np.iinfo(np.int64).max
EASILY_WRONG: dict[str, tuple[onnx.ModelProto, Array]] = {
    "padding by name that counts": (network([SAME_POOL]), X),
    "padding by name that counts, of known size": (network([SAME_POOL], shape=X.shape), X),
    "a sum over no axes that is one over all": (
        network(
            [op("ReduceSum", "c,a", "s", keepdims=1), op("Mul", "x,s", "y")],
            {"c": numbers(1, 2, 1, 1), "a": np.zeros(0, np.int64)},
        ),
        X,
    ),
    "a vector laid flat before its axis": (
        network([op("Flatten", "x", "y", axis=0)], shape=["n"]),
        X[0, 0, 0],
    ),
    "a vector laid flat after its axis": (
        network([op("Flatten", "x", "y", axis=1)], shape=["n"]),
        X[0, 0, 0],
    ),
    "a vector laid flat, counted from behind": (
        network([op("Flatten", "x", "y", axis=-1)], shape=["n"]),
        X[0, 0, 0],
    ),
    "rounding by a large offset": (
        network([op("Add", "x,m", "a"), op("Sub", "a,m", "y")], {"m": np.array(12582912, np.float32)}),
        X,
    ),
    "rounding by a large offset after a convolution": (
        network(
            [op("Conv", "x,w,b", "c"), op("Sub", "c,m", "y")],
            {
                "w": numbers(3, 2, 1, 1),
                "b": np.full(3, 12582912, np.float32),
                "m": np.array(12582912, np.float32),
            },
        ),
        X,
    ),
    "every second row, with axes left out": (
        network(
            [op("Slice", "x,s,e,,t", "y")],
            {"s": np.zeros(3, np.int64), "e": np.full(3, HIGHEST), "t": np.array([1, 1, 2])},
        ),
        X,
    ),
    "a part enlarged to the whole": (
        network(
            [op("Resize", "x,r,s", "y", mode="linear", coordinate_transformation_mode="tf_crop_and_resize")],
            {"r": np.array([0, 0, 0.2, 0.2, 1, 1, 0.8, 0.8], np.float32), "s": np.ones(4, np.float32)},
        ),
        X,
    ),
}


@pytest.mark.parametrize("case", EASILY_WRONG)
def test_the_canonical_form_computes_what_the_file_does(case: str, tmp_path: Path) -> None:
    model, values = EASILY_WRONG[case]
    opened = opened_as(model, tmp_path)
    ours = run(to_onnx(opened.structure, opened.tensors), {"x0": values})
    wanted = run(model, {"x": values})
    assert [array.shape for array in ours] == [array.shape for array in wanted]
    assert largest_difference(ours, wanted) <= 1e-5
    assert faithful(tmp_path / "model.onnx", opened) is None


def test_offsets_of_ordinary_size_are_still_one(tmp_path: Path) -> None:
    model = network(
        [op("Add", "x,a", "b"), op("Sub", "b,a", "c"), op("Add", "c,d", "y")],
        {"a": np.array(0.5, np.float32), "d": np.array(1024, np.float32)},
    )
    assert [o.type for o in opened_as(model, tmp_path).structure.ops] == ["Add"]


# --- what depends on the processor


def test_powers_and_exponentials_are_not_computed_beforehand(tmp_path: Path) -> None:
    """Their last place depends on the processor's vector instructions; it would be in the digest."""
    for made in (op("Pow", "g,e", "w"), op("Exp", "g", "w")):
        tensors: dict[str, Array] = {"g": np.abs(numbers(4, 2, 3, 3)), "e": np.array(2.5, np.float32)}
        opened = opened_as(network([made, op("Conv", "x,w", "y")], tensors), tmp_path)
        assert [o.type for o in opened.structure.ops] == [made.op_type, "Conv"]


def test_only_operators_that_every_processor_rounds_alike_are_computed() -> None:
    unsafe = {"Exp", "Log", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Softmax", "ReduceMean", "MatMul", "Gemm"}
    assert unsafe.isdisjoint(FUNCTIONS)
    base = np.array([2.0, 3.0], np.float32)
    for exponent, wanted in ((1, base), (2, base * base), (-1, 1 / base), (0.5, np.sqrt(base))):
        found = evaluate(Node("Pow", ["a", "b"], ["c"]), [base, np.array(exponent, np.float32)], 1 << 20)
        assert found is not None
        np.testing.assert_array_equal(found[0], wanted)
        assert found[0].dtype == np.float32
    with pytest.raises(ValueError, match="processors"):
        evaluate(Node("Pow", ["a", "b"], ["c"]), [base, np.array(3, np.float32)], 1 << 20)


@pytest.mark.parametrize("axes", [None, [], [0], [1, 2], [-1], [0, 1, 2]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_sums_are_taken_one_number_after_the_other(axes: list[int] | None, keepdims: int) -> None:
    data = numbers(5, 7, 3)
    node = Node("ReduceSum", ["a", "b"], ["c"], {"keepdims": keepdims})
    found = evaluate(node, [data, None if axes is None else np.array(axes, np.int64)], 1 << 20)
    assert found is not None
    wanted = np.sum(data, tuple(axes) if axes else None, np.float64, keepdims=bool(keepdims))
    assert found[0].shape == wanted.shape
    np.testing.assert_allclose(found[0], wanted, rtol=1e-6, atol=1e-6)
    if axes == [0]:
        total = np.zeros((7, 3))
        for row in data:
            total = total + row
        np.testing.assert_array_equal(found[0].reshape(7, 3), total.astype(np.float32))


def test_the_larger_of_two_noughts_is_always_the_same() -> None:
    noughts = np.array([0.0, -0.0], np.float32)
    for operator in ("Max", "Min"):
        found = evaluate(Node(operator, ["a", "b"], ["c"]), [noughts, noughts[::-1]], 1 << 20)
        assert found is not None
        assert not np.signbit(found[0]).any()


# --- operands that are computed alike


def two_branches(first: Array, second: Array, swapped: bool) -> onnx.ModelProto:
    operands = "b,a" if swapped else "a,b"
    nodes = [op("Conv", "x,v", "a"), op("Conv", "x,w", "b"), op("Add", operands, "y")]
    return network(nodes, {"v": first, "w": second})


def test_swapped_operands_that_differ_in_learned_numbers_only_give_one_digest(tmp_path: Path) -> None:
    for seed in range(6):
        first, second = numbers(2, 3, 2, 1, 1, seed=seed)
        digests = {digest_of(two_branches(first, second, swapped), tmp_path) for swapped in (False, True)}
        assert len(digests) == 1


def test_a_tuned_or_scaled_variant_keeps_the_order_of_its_base(tmp_path: Path) -> None:
    """Otherwise its filters would be compared with those of the other branch, and be kept in full."""
    random = np.random.default_rng(1)
    for seed in range(8):
        first, second = numbers(2, 8, 2, 3, 3, seed=seed)
        scales = random.uniform(0.5, 2, (2, 8, 1, 1, 1)).astype(np.float32)
        base = opened_as(two_branches(first, second, seed % 2 == 0), tmp_path)
        variant = opened_as(two_branches(first * scales[0], second * scales[1], seed % 3 == 0), tmp_path)
        assert base.structure == variant.structure
        for name, kind in base.structure.tensors.items():
            if len(kind.shape) == 4:
                assert np.array_equal(np.sign(base.tensors[name]), np.sign(variant.tensors[name]))


def test_operands_with_equal_numbers_come_in_either_order(tmp_path: Path) -> None:
    first = numbers(3, 2, 1, 1)
    assert digest_of(two_branches(first, first.copy(), False), tmp_path) == digest_of(
        two_branches(first, first.copy(), True), tmp_path
    )


def test_comparing_numbers_is_an_order() -> None:
    arrays = [numbers(70), numbers(70, seed=1), np.full(70, np.nan, np.float32), numbers(7), numbers(70)]
    arrays[-1][-1] += 1
    for one in arrays:
        assert compared(one, one) == 0
        for other in arrays:
            assert compared(one, other) == -compared(other, one)
    assert compared(arrays[0], arrays[-1]) != 0


# --- normalisation


def test_equal_bare_normalisations_are_computed_once_from_the_first_time_on(tmp_path: Path) -> None:
    scales = {f"s{n}": numbers(2, seed=n) for n in range(4)}
    nodes = [
        op("InstanceNormalization", "x,s0,s1", "a"),
        op("InstanceNormalization", "x,s2,s3", "b"),
        op("Concat", "a,b", "y", axis=1),
    ]
    opened = opened_as(network(nodes, scales), tmp_path)
    assert [o.type for o in opened.structure.ops].count("InstanceNormalization") == 1
    assert digest_of(to_onnx(opened.structure, opened.tensors), tmp_path) == digest_of(
        network(nodes, scales), tmp_path
    )


@pytest.mark.parametrize("opset", [18, 20])
def test_the_first_group_normalisation_with_a_scale_per_group_meets_the_final_one(
    opset: int, tmp_path: Path
) -> None:
    shape, values = ("n", 4, "h", "w"), numbers(2, 4, 6, 6)
    node = op("GroupNormalization", "x,s,b", "y", num_groups=2)
    scale, bias = numbers(2, seed=3), numbers(2, seed=4)
    early = network([node], {"s": scale, "b": bias}, shape=shape, opset=opset)
    final = network([node], {"s": scale.repeat(2), "b": bias.repeat(2)}, shape=shape, opset=21)
    assert digest_of(early, tmp_path) == digest_of(final, tmp_path)
    opened = opened_as(early, tmp_path)
    ours = run(to_onnx(opened.structure, opened.tensors), {"x0": values})
    assert largest_difference(ours, run(early, {"x": values})) <= 1e-5


def test_a_group_normalisation_of_no_groups_is_refused(tmp_path: Path) -> None:
    node = op("GroupNormalization", "x,s,b", "y", num_groups=0)
    with pytest.raises(NetworkRefused) as refused:
        opened_as(network([node], {"s": numbers(2), "b": numbers(2)}, opset=18), tmp_path)
    assert refused.value.reason == "invalid"


# --- errors of ours


def test_an_error_in_a_pass_is_logged_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(opening, "canonicalise", broken)
    with caplog.at_level(logging.WARNING), pytest.raises(NotOpenable) as closed:
        opened_as(network([op("Relu", "x", "y")]), tmp_path)
    assert closed.value.reason == "not-understood"
    assert "KeyError: 'lost'" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("make", [unet, meshnet])
def test_no_network_of_ours_ends_in_an_error_of_a_pass(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(3):
        opened_as(make(seed), tmp_path)
    assert "not understood" not in caplog.text

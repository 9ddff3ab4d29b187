"""Canonical form: normalisation and biases become one scale and one offset behind what they follow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from tests.canonical_cases import X, meet, opened_as, stays_itself
from tests.networks import unet
from tests.written_graphs import Net, conv


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("other", ["folded", "none"])
def test_normalisation_kept_folded_or_absent_gives_one_structure(
    dims: int, other: Any, tmp_path: Path
) -> None:
    whole = opened_as(unet(3, norm="batch", dims=dims), tmp_path)
    changed = opened_as(unet(3, norm=other, dims=dims), tmp_path)
    assert changed.structure.to_bytes() == whole.structure.to_bytes()


def test_another_normalisation_leaves_the_large_tensors_equal_bit_for_bit(tmp_path: Path) -> None:
    one, other = (opened_as(unet(3, norm_seed=seed), tmp_path) for seed in (1, 2))
    assert one.structure.to_bytes() == other.structure.to_bytes()
    differing = [n for n, _, value in one.typed_tensors() if not np.array_equal(value, other.tensors[n])]
    assert differing
    assert all(one.tensors[name].ndim == 3 for name in differing)


def test_scale_and_offset_are_rounded_once(tmp_path: Path) -> None:
    """Against the same in float64: within half a unit in the last place."""
    model = unet(3)
    opened = opened_as(model, tmp_path)
    given_tensors = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    scale, bias, mean, variance = (
        given_tensors[f"down0.0.norm.{word}"] for word in ("scale", "bias", "mean", "var")
    )
    factor = scale / np.sqrt(variance + float(np.float32(1e-5)))
    np.testing.assert_array_equal(opened.tensors["t1"].ravel(), factor.astype(np.float32))
    np.testing.assert_array_equal(opened.tensors["t2"].ravel(), (bias - mean * factor).astype(np.float32))


def test_a_value_with_two_readers_ends_the_chain(tmp_path: Path) -> None:
    net = Net(2)
    value = conv(net, "x", net.weights(4, 4, 3, 3), net.weights(4))
    scaled = net.add("Mul", value, net.weights(4, 1, 1))
    opened = stays_itself(net.model(net.add("Add", value, scaled)), tmp_path, X)
    assert [op.type for op in opened.structure.ops] == ["Conv", "Mul", "Add", "Mul", "Add"]


def test_a_scale_along_another_axis_is_not_taken_for_one_per_channel(tmp_path: Path) -> None:
    net = Net(2)
    value = net.add("Mul", conv(net, "x", net.weights(4, 4, 3, 3)), net.weights(8))
    opened = stays_itself(net.model(value), tmp_path, X)
    assert [op.type for op in opened.structure.ops] == ["Conv", "Mul", "Add", "Mul"]


def test_a_lone_batch_normalisation_becomes_a_scale_and_an_offset(tmp_path: Path) -> None:
    net, other = Net(3), Net(3)
    numbers = [net.constant(np.random.default_rng(0).uniform(0.5, 1.5, 4)) for _ in range(4)]
    relu = net.add("Relu", net.add("BatchNormalization", "x", *numbers))
    scale = np.random.default_rng(0).uniform(0.5, 1.5, 4).astype(np.float32)
    factor = scale / np.sqrt(scale.astype(np.float64) + 1e-5)
    value = other.add("Mul", "x", other.constant(factor.reshape(1, 4, 1, 1)))
    value = other.add("Add", value, other.constant((scale - scale * factor).reshape(4, 1, 1)))
    meet(
        stays_itself(net.model(relu), tmp_path, X),
        stays_itself(other.model(other.add("Relu", value)), tmp_path, X),
    )


@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_is_matmul_with_scale_and_offset(trans_b: int, tmp_path: Path) -> None:
    net, other = Net(4, ("n", 4)), Net(4, ("n", 4))
    feeds = {"x": X["x"][:, :, 0, 0].copy()}
    weights, bias = net.weights(4, 5), net.weights(5)
    if trans_b:
        net.tensors[weights] = net.tensors[weights].T.copy()
    gemm = net.add("Gemm", "x", weights, bias, transB=trans_b)
    product = other.add("MatMul", "x", other.weights(4, 5))
    plus = other.add("Add", product, other.weights(5))
    meet(stays_itself(net.model(gemm), tmp_path, feeds), stays_itself(other.model(plus), tmp_path, feeds))


def test_gemm_with_factors_keeps_its_outputs(tmp_path: Path) -> None:
    net = Net(4, ("n", 4))
    feeds = {"x": X["x"][:, :, 0, 0].copy()}
    value = net.add("Gemm", "x", net.weights(4, 5), net.weights(1, 5), alpha=0.5, beta=3.0)
    opened = stays_itself(net.model(value), tmp_path, feeds)
    assert [op.type for op in opened.structure.ops] == ["MatMul", "Mul", "Add"]


def test_group_normalisation_meets_its_decomposition(tmp_path: Path) -> None:
    net, other = Net(6), Net(6)
    scale, bias = net.weights(4), net.weights(4)
    whole = net.add("GroupNormalization", "x", scale, bias, num_groups=2)
    scale, bias = other.weights(4), other.weights(4)
    groups = other.add("Reshape", "x", other.constant([0, 2, -1], np.int64))
    ones, noughts = other.constant([1, 1]), other.constant([0, 0])
    normal = other.add("InstanceNormalization", groups, ones, noughts)
    back = other.add("Reshape", normal, other.add("Shape", "x"))
    axes = other.constant([1, 2], np.int64)
    back = other.add("Mul", back, other.add("Unsqueeze", scale, axes))
    back = other.add("Add", back, other.add("Unsqueeze", bias, axes))
    meet(
        stays_itself(net.model(whole, opset=21), tmp_path, X),
        stays_itself(other.model(back), tmp_path, X),
    )

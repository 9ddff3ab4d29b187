"""Filters that folded normalisation hides are found again, and nothing else is taken for one."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.networks.families.filters import Filter, filters_of
from planner.networks.families.unfold import (
    TOLERANCE,
    bits_of,
    packed_residual,
    peaks,
    refolded,
    unfold,
    unpacked_residual,
)
from planner.networks.structure import Op, Port, Structure, TensorType
from tests.canonical_networks import unet

VIEWS = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 9))


def scaled(filter_: Filter, tensor: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """tensor * scale in float64, rounded once: as an exporter folds. scale: [channels]."""
    groups, _, columns, _ = filter_.view
    factors = scale.astype(np.float64).reshape(groups, 1, columns, 1)
    return (tensor.reshape(filter_.view) * factors).astype(np.float32).reshape(tensor.shape)


@given(view=VIEWS, seed=st.integers(0, 1 << 30), folded_base=st.booleans())
@settings(max_examples=60, deadline=None)
def test_two_foldings_of_one_filter_differ_by_a_factor_per_channel(
    view: tuple[int, int, int, int], seed: int, folded_base: bool
) -> None:
    filter_, random = Filter("t0", view, ("t1",)), np.random.default_rng(seed)
    raw = random.normal(size=prod(view)).astype(np.float32)
    first = random.uniform(0.1, 3, filter_.channels) * random.choice([-1, 1], filter_.channels)
    second = random.uniform(0.1, 3, filter_.channels) * random.choice([-1, 1], filter_.channels)
    base = scaled(filter_, raw, first) if folded_base else raw
    folded = scaled(filter_, raw, second)
    found = unfold(filter_, base, folded, peaks(filter_, base))
    assert found is not None
    assert found.residual is not None
    np.testing.assert_allclose(found.scale, second / first if folded_base else second, rtol=5e-7)
    again = refolded(filter_, base, found.scale)
    largest = np.abs(filter_.by_channel(folded)).max(axis=1)
    apart = np.abs(filter_.by_channel(again.astype(np.float64) - folded)).max(axis=1)
    assert (apart <= found.error * largest * (1 + 1e-6)).all()
    assert found.error <= TOLERANCE
    exact = refolded(filter_, base, found.scale, found.residual)
    assert exact.tobytes() == folded.tobytes()


@pytest.mark.parametrize("view", [(600, 1, 1, 300), (2, 700, 64, 4), (1, 900, 200, 1), (1, 1, 3, 100_000)])
def test_large_filters_are_unfolded_piece_by_piece(view: tuple[int, int, int, int]) -> None:
    filter_, random = Filter("t0", view, ("t1",)), np.random.default_rng(1)
    base = random.normal(size=prod(view)).astype(np.float32)
    folded = scaled(filter_, base, random.uniform(0.1, 3, filter_.channels))
    found = unfold(filter_, base, folded, peaks(filter_, base))
    assert found is not None
    assert refolded(filter_, base, found.scale, found.residual).tobytes() == folded.tobytes()
    folded[-1] *= 1.001
    assert unfold(filter_, base, folded, peaks(filter_, base)) is None


@given(view=VIEWS, seed=st.integers(0, 1 << 30), channel=st.integers(0, 1000), times=st.floats(4, 1000))
@settings(max_examples=60, deadline=None)
def test_one_number_off_by_more_than_the_tolerance_refuses_the_filter(
    view: tuple[int, int, int, int], seed: int, channel: int, times: float
) -> None:
    filter_, random = Filter("t0", view, ("t1",)), np.random.default_rng(seed)
    if filter_.per_channel == 1:  # a single number is a multiple of any other
        return
    base = random.normal(size=prod(view)).astype(np.float32)
    folded = scaled(filter_, base, random.uniform(0.1, 3, filter_.channels))
    place = peaks(filter_, base)[channel % filter_.channels]
    lanes = filter_.by_channel(np.arange(prod(view)))[channel % filter_.channels]
    other = int(lanes[lanes != place][0])
    folded[other] += times * TOLERANCE * np.abs(folded[place])
    assert unfold(filter_, base, folded, peaks(filter_, base)) is None


def test_zero_channels_have_factor_one_and_a_channel_that_died_factor_zero() -> None:
    filter_ = Filter("t0", (4, 1, 1, 9), ("t1",))
    base = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    base[1] = 0
    folded = base * np.float32(2)
    folded[2] = 0
    found = unfold(filter_, base, folded, peaks(filter_, base))
    assert found is not None
    assert found.scale.tolist() == [2, 1, 0, 2]


@pytest.mark.parametrize(
    ("was", "now"), [(0.0, 1.0), (1.0, np.inf), (1.0, np.nan), (np.nan, 1.0), (1e-42, 2e-42), (1e-30, 1e30)]
)
def test_a_channel_without_a_finite_factor_refuses_the_filter(was: float, now: float) -> None:
    filter_ = Filter("t0", (2, 1, 1, 4), ("t1",))
    base = np.array([[1, 2, 3, 4], [was] * 4], np.float32)
    folded = np.array([[1, 2, 3, 4], [now] * 4], np.float32)
    assert unfold(filter_, base, folded, peaks(filter_, base)) is None


def test_negative_zeros_come_back_with_their_sign() -> None:
    filter_ = Filter("t0", (1, 1, 1, 4), ("t1",))
    base = np.array([1, 0, -0.0, 2], np.float32)
    folded = base * np.float32(-3)
    found = unfold(filter_, base, folded, peaks(filter_, base))
    assert found is not None
    assert refolded(filter_, base, found.scale, found.residual).tobytes() == folded.tobytes()


@given(st.integers(2, 8), st.integers(0, 40), st.integers(0, 1 << 30))
def test_residuals_come_back_from_their_pack(bits: int, size: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(-(1 << bits - 1), 1 << bits - 1, size).astype(np.int8)
    needed = bits_of(numbers)
    assert needed <= 8
    data = packed_residual(numbers, needed)
    assert len(data) == -(-size * needed // 8)
    assert unpacked_residual(data, needed, size).tolist() == numbers.tolist()


@pytest.mark.parametrize(
    ("type_", "shape", "attributes", "view"),
    [
        ("Conv", (8, 3, 3, 3), {}, (8, 1, 1, 27)),
        ("Conv", (8, 1, 3, 3), {"group": 8}, (8, 1, 1, 9)),
        ("ConvTranspose", (6, 8, 2, 2), {}, (1, 6, 8, 4)),
        ("ConvTranspose", (6, 4, 2, 2), {"group": 2}, (2, 3, 4, 4)),
        ("Gemm", (5, 7), {}, (1, 5, 7, 1)),
        ("Gemm", (5, 7), {"transB": 1}, (5, 1, 1, 7)),
        ("MatMul", (5, 7), {}, (1, 5, 7, 1)),
    ],
)
def test_each_operator_has_its_own_channels(
    type_: str, shape: tuple[int, ...], attributes: dict[str, int], view: tuple[int, int, int, int]
) -> None:
    channels = view[0] * view[2]
    factor = (channels,) if len(shape) == 2 else (channels, 1, 1)
    structure = one_filter(Op(type_, ("x0", "t0"), ("v0",), attributes), shape, factor)
    assert filters_of(structure) == {"t0": Filter("t0", view, ("t1",))}


def test_a_factor_along_another_axis_than_the_channels_is_none() -> None:
    structure = one_filter(Op("Conv", ("x0", "t0"), ("v0",)), (8, 3, 3, 3), (8, 1))
    assert filters_of(structure)["t0"].factors == ()


def test_a_filter_whose_output_others_read_has_no_factor() -> None:
    structure = one_filter(Op("Conv", ("x0", "t0"), ("v0",)), (8, 3, 3, 3), (8, 1, 1), also_reads="v0")
    assert filters_of(structure)["t0"].factors == ()


def test_a_filter_with_a_bias_inside_its_operator_has_no_factor() -> None:
    structure = one_filter(Op("Conv", ("x0", "t0", "t2"), ("v0",)), (8, 3, 3, 3), (8, 1, 1))
    assert filters_of(structure)["t0"].factors == ()


def test_every_filter_of_a_network_has_its_factor() -> None:
    opened = unet(1)
    filters = filters_of(opened.structure)
    assert [len(opened.structure.tensors[name].shape) for name in filters] == [4] * len(filters)
    assert len(filters) == sum(op.type.startswith("Conv") for op in opened.structure.ops)
    assert all(len(filter_.factors) == 1 for filter_ in filters.values())


def one_filter(op: Op, shape: tuple[int, ...], factor: tuple[int, ...], also_reads: str = "x0") -> Structure:
    return Structure(
        opset=17,
        inputs=(Port("x0", "float32", ("n", "c", "h", "w")),),
        outputs=(Port("y0", "float32", ("n", "c", "h", "w")), Port("y1", "float32", ("n", "c", "h", "w"))),
        tensors={
            "t0": TensorType("float32", shape),
            "t1": TensorType("float32", factor),
            "t2": TensorType("float32", (8,)),
        },
        constants={},
        ops=(op, Op("Mul", ("v0", "t1"), ("y0",)), Op("Relu", (also_reads,), ("y1",))),
    )

"""Differences of low rank and sparse differences are found, kept small and given back."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.networks.families.low_rank import LARGEST_RANK, TOLERANCE, low_rank, with_low_rank
from planner.networks.families.sparse import MOST, equal, sparse_difference, with_sparse


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(
    rows=st.integers(40, 90),
    columns=st.integers(5, 30),
    rank=st.integers(1, 12),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=40, deadline=None)
def test_an_adapter_is_found_with_its_rank(rows: int, columns: int, rank: int, seed: int) -> None:
    base = normal(rows, columns, 3, 3, seed=seed)
    update = normal(rows, rank, seed=seed + 1) @ normal(rank, columns * 9, seed=seed + 2)
    tensor = base + 0.1 * update.reshape(base.shape)
    found = low_rank(base, tensor)
    if (rows + columns * 9) * rank * 2 > base.size:
        assert found is None
        return
    assert found is not None
    assert found.rank == rank
    again = with_low_rank(base, found.left, found.right)
    assert np.abs(again - tensor).max() <= found.error * np.abs(tensor).max() * (1 + 1e-6)
    assert found.error <= TOLERANCE


@given(st.integers(0, 1 << 30), st.sampled_from([1e-5, 1e-3, 0.1, 1.0]))
@settings(max_examples=20, deadline=None)
def test_a_difference_of_full_rank_is_not_taken_for_an_adapter(seed: int, size: float) -> None:
    base = normal(64, 32, 3, 3, seed=seed)
    assert low_rank(base, base + np.float32(size) * normal(64, 32, 3, 3, seed=seed + 1)) is None


def test_a_rank_above_the_largest_is_refused() -> None:
    base, rank = normal(300, 3000), LARGEST_RANK + 1
    update = normal(300, rank, seed=1) @ normal(rank, 3000, seed=2)
    assert low_rank(base, base + update) is None
    update = normal(300, LARGEST_RANK, seed=1) @ normal(LARGEST_RANK, 3000, seed=2)
    found = low_rank(base, base + update / 10)
    assert found is not None
    assert found.rank == LARGEST_RANK


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_have_no_rank(value: float) -> None:
    base = normal(64, 64)
    tensor = base.copy()
    tensor[3, 4] = value
    assert low_rank(base, tensor) is None
    assert low_rank(tensor, base) is None


@pytest.mark.parametrize("shape", [(100,), (1, 100), (100, 1)])
def test_vectors_have_no_low_rank(shape: tuple[int, ...]) -> None:
    assert low_rank(normal(*shape), normal(*shape, seed=1)) is None


@given(st.integers(1, 100_000), st.floats(0, 0.3), st.integers(0, 1 << 30), st.sampled_from("fdbe"))
@settings(max_examples=40, deadline=None)
def test_a_sparse_difference_gives_the_tensor_back_bit_for_bit(
    size: int, share: float, seed: int, dtype: str
) -> None:
    random = np.random.default_rng(seed)
    base = (random.normal(size=size) * 20).astype(dtype)
    tensor = base.copy()
    places = random.choice(size, int(size * share), replace=False)
    tensor[places] += np.array(1, dtype)
    found = sparse_difference(base, tensor)
    changed = np.flatnonzero(base != tensor)
    if len(changed) > int(size * MOST):
        assert found is None
        return
    assert found is not None
    assert found.indices.tolist() == changed.tolist()
    assert with_sparse(base, found).tobytes() == tensor.tobytes()


def test_tensors_are_equal_only_with_equal_bytes() -> None:
    tensor = normal(300, 300)
    other = tensor.copy()
    assert equal(tensor, other)
    other[-1, -1] = np.nextafter(other[-1, -1], np.float32(9))
    assert not equal(tensor, other)
    assert not equal(np.zeros(3, np.float32), -np.zeros(3, np.float32))
    nothing = np.full(3, np.nan, np.float32)
    assert equal(nothing, nothing.copy())
    assert not equal(np.zeros(4, np.float32), np.zeros((2, 2), np.float32))


def test_an_adapter_is_found_alike_by_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    base = normal(90, 20, 3, 3)
    tensor = base + 0.1 * (normal(90, 4, seed=1) @ normal(4, 180, seed=2)).reshape(base.shape)
    whole = low_rank(base, tensor)
    monkeypatch.setattr("planner.networks.families.low_rank._BLOCK", 7 * 180)
    parts = low_rank(base, tensor)
    assert whole is not None
    assert parts is not None
    assert parts.rank == whole.rank == 4
    assert parts.error <= TOLERANCE
    np.testing.assert_allclose(parts.left @ parts.right, whole.left @ whole.right, atol=1e-6)
    few = tensor.copy()
    few[-1, 0, 0, 0] = np.nan  # in the last rows, which are fewer than the others
    assert low_rank(base, few) is None


def test_no_copy_of_a_large_tensor_is_made() -> None:
    base = normal(4096, 2048)
    tensor = base + 0.1 * (normal(4096, 2, seed=1) @ normal(2, 2048, seed=2))
    tracemalloc.start()
    try:
        found = low_rank(base, tensor)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found.rank == 2
    assert peak < 3 * base.nbytes  # a block in float64 and thin products; all of it in float64 took 4.0

"""Volumes are scaled by their own numbers, and a number is the same whatever else is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import KernelError, PipelineError
from models.operators.normalise_volume import NormaliseVolume, NormaliseWith
from models.operators.registry import operator_from
from models.operators.statistics import Statistics
from models.values import ONE, Kind, Measurements, ValueType, Volume
from tests.imaging_cases import applied, volume

VOXELS = np.random.default_rng(0).normal(50, 20, (5, 6, 7)).astype(np.float32)


def numbers(measured: Any) -> dict[str, float]:
    assert isinstance(measured, Measurements)
    return {item.quantity: item.value for item in measured.items if item.value is not None}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    shares=st.lists(st.sampled_from([0.0, 0.01, 0.05, 0.5, 0.731, 0.95, 1.0]), unique=True, max_size=4),
    quantities=st.permutations(["min", "max", "mean", "std"]),
)
def test_statistics_are_those_of_numpy_whatever_else_is_asked_for(
    seed: int, shares: list[float], quantities: list[Any]
) -> None:
    voxels = np.random.default_rng(seed).normal(50, 20, (3, 4, 5)).astype(np.float32)
    statistics = Statistics(quantities=tuple(quantities), quantiles=tuple(shares))
    found = numbers(applied(statistics, volume(voxels)))
    exact = voxels.astype(np.float64)
    expected = {"min": exact.min(), "max": exact.max(), "mean": exact.mean(), "std": exact.std()}
    expected |= {f"q{share}": np.quantile(exact, share) for share in shares}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-6)
    for share in shares:
        alone = numbers(applied(Statistics(quantiles=(share,)), volume(voxels)))
        assert alone == {f"q{share}": found[f"q{share}"]}


def test_the_extremes_become_zero_and_one() -> None:
    scaled = applied(NormaliseVolume(by="min_max"), volume(VOXELS))
    assert isinstance(scaled, Volume)
    assert scaled.unit == ONE
    assert (scaled.voxels.min(), scaled.voxels.max()) == (0, 1)
    expected = (VOXELS - VOXELS.min()) / (VOXELS.max() - VOXELS.min())
    np.testing.assert_array_equal(scaled.voxels, expected)


def test_quantiles_are_not_clipped_unless_asked() -> None:
    low, high = np.quantile(VOXELS, [0.05, 0.95])
    scaled = applied(NormaliseVolume(by="quantiles"), volume(VOXELS)).voxels
    np.testing.assert_allclose(scaled, (VOXELS - low) / (high - low), atol=1e-5)
    assert scaled.min() < 0
    assert scaled.max() > 1
    clipped = applied(NormaliseVolume(by="quantiles", clip=True), volume(VOXELS)).voxels
    np.testing.assert_array_equal(clipped, np.clip(scaled, 0, 1))


def test_a_z_score_has_mean_zero_and_deviation_one() -> None:
    scaled = applied(NormaliseVolume(by="z_score"), volume(VOXELS)).voxels
    assert abs(scaled.mean()) < 1e-5
    assert abs(scaled.std() - 1) < 1e-5


@pytest.mark.parametrize("by", ["min_max", "quantiles", "z_score"])
@pytest.mark.parametrize("ripple", [0.0, 3e-5])
def test_a_volume_without_contrast_becomes_zero(by: Any, ripple: float) -> None:
    """Also where interpolation left a few roundings, which must not be blown up to an image."""
    flat = np.full((3, 4, 5), 300, np.float32)
    flat[1] += np.float32(ripple)
    assert not applied(NormaliseVolume(by=by), volume(flat)).voxels.any()


def test_statistics_of_the_whole_can_normalise_a_part() -> None:
    operator = NormaliseVolume(by="quantiles")
    measured = applied(operator.statistics(), volume(VOXELS))
    whole = applied(operator, volume(VOXELS)).voxels
    part = applied(operator.given_statistics(), volume(VOXELS[1:3]), measured).voxels
    np.testing.assert_array_equal(part, whole[1:3])


def test_statistics_that_lack_a_number_are_refused() -> None:
    measured = applied(Statistics(quantities=("mean",)), volume(VOXELS))
    with pytest.raises(KernelError, match="the statistics lack min or max"):
        applied(NormaliseWith(by="min_max"), volume(VOXELS), measured)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"by": "min_max", "low": 0.1}, "belong to by: quantiles"),
        ({"by": "quantiles", "low": 0.9, "high": 0.1}, "must be below high"),
        ({"by": "z_score", "clip": True}, "has no use"),
        ({"by": "range"}, "by"),
    ],
)
def test_settings_that_say_nothing_are_refused(parameters: dict[str, Any], reason: str) -> None:
    for word in ("normalise_volume", "normalise_with"):
        with pytest.raises(PipelineError, match=reason):
            operator_from(word, 1, parameters)


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="must be given"):
        Statistics()
    with pytest.raises(ValueError, match="0 to 1"):
        Statistics(quantiles=(1.5,))


def test_any_volume_is_taken_and_nothing_else() -> None:
    for unit in ("[hnsf'U]", "1"):
        given_type = ValueType(kind=Kind.VOLUME, unit=unit, on_source_grid=True)
        inferred = NormaliseVolume(by="min_max").infer([given_type])
        assert inferred == ValueType(kind=Kind.VOLUME, unit=ONE, on_source_grid=True)
    with pytest.raises(PipelineError):
        NormaliseVolume(by="min_max").infer([ValueType(kind=Kind.LABEL_MAP)])


@pytest.mark.parametrize(("name", "high"), [("t1_crop", 112), ("M2265_T2w", 77)])
def test_the_quantiles_of_a_real_head_are_those_its_network_was_fed_with(
    shared_data: Path, name: str, high: float
) -> None:
    import nibabel

    voxels = np.asarray(nibabel.load(shared_data / "nifti" / f"{name}.nii.gz").dataobj, np.float32)
    found = numbers(applied(Statistics(quantiles=(0.05, 0.95)), volume(voxels, unit=ONE)))
    assert found == {"q0.05": 0, "q0.95": high}

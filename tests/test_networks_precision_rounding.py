"""Rounding filters and values: to what grid, with what ends, and with what made up for afterwards."""

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from planner.networks.precision.bias_correction import boundary_shift, correction
from planner.networks.precision.calibrate import Range, Seen
from planner.networks.precision.rounding import bf16_rounded, feedback, rounded


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

"""The numbers of one layer at one level: filters on a coarser grid, a bias that makes up for the shift."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.precision.bias_correction import correction
from planner.networks.precision.calibrate import Calibration, Range
from planner.networks.precision.layers import Layer, Level
from planner.networks.precision.rounding import Feedback, bf16_rounded, rounded

_HIGHEST = 127
"""int8 filters are symmetric, so that no zero point enters the products."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """filter: bf16 as float32 values that bfloat16 holds exactly; int8 with `scales`, float32[out].
    bias: float32[out]."""

    filter: NDArray[Any]
    bias: NDArray[np.float32]
    scales: NDArray[np.float32] | None = None


def numbers_of(
    layer: Layer,
    level: Level,
    calibration: Calibration,
    known: Feedback | None,
    ranges: Mapping[str, Range],
) -> Numbers:
    """Round a layer for `bf16` or `int8`. known: of the layer's patches; ranges: of what int8 layers read."""
    matrix = _matrix(layer, layer.filter)
    patches = calibration.patches.get(layer.name)
    fed = None if patches is None else _as_read(patches, level, ranges.get(layer.source))
    scales = None
    if level == "int8":
        scales = np.maximum(np.abs(matrix).max(axis=1) / _HIGHEST, 1e-12).astype(np.float32)
        result = rounded(matrix, known, _int8_grid(scales))
    else:
        result = rounded(matrix, known, lambda column: bf16_rounded(column).astype(np.float64))
    bias = layer.bias
    if patches is not None and fed is not None:
        exact = matrix.astype(np.float32)
        bias = bias + correction(exact, patches, result.astype(np.float32), fed)
    if scales is not None:
        result = np.rint(result / scales[:, None]).astype(np.int8)
    kept = result if level == "int8" else result.astype(np.float32)
    return Numbers(_unmatrix(layer, kept), bias, scales)


def _as_read(patches: NDArray[np.float32], level: Level, source: Range | None) -> NDArray[np.float32]:
    if level == "int8":
        assert source is not None  # every value that an int8 layer reads is calibrated
        return np.asarray(source.applied(patches), np.float32)
    return bf16_rounded(patches)


def _int8_grid(scales: NDArray[np.float32]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    steps = scales.astype(np.float64)
    return lambda column: np.clip(np.rint(column / steps), -_HIGHEST, _HIGHEST) * steps


def _matrix(layer: Layer, filters: NDArray[Any]) -> NDArray[np.float64]:
    """[out, everything else]."""
    return (
        np.moveaxis(filters, layer.out_axis, 0).reshape(filters.shape[layer.out_axis], -1).astype(np.float64)
    )


def _unmatrix(layer: Layer, matrix: NDArray[Any]) -> NDArray[Any]:
    shape = list(layer.filter.shape)
    out = shape.pop(layer.out_axis)
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(out, *shape), 0, layer.out_axis))

"""From samples of a stage to its cost model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.binding import CostModel, TileCost
from planner.stages import UNMEASURED

PEAK_MARGIN, PEAK_SLACK_BYTES = 0.1, 16 << 20
"""A run takes at most so much more than is predicted, on series unlike the phantoms: the larger of a share
of the prediction and an amount that no reservation turns on. Whoever reserves memory leaves room for it."""

_RESERVE = 1.1
"""Peaks of equal runs differ by a few per cent, as the C library places arrays, and patients by as much."""


def within_margin(predicted_bytes: int, real_bytes: int) -> bool:
    """Whether a run took no more than the prediction allows for."""
    return real_bytes <= predicted_bytes + max(PEAK_MARGIN * predicted_bytes, PEAK_SLACK_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One stage on one phantom; what it takes and gives as in planner.binding.CostModel."""

    voxels: int
    litres: float
    seconds: float
    peak_bytes: int
    output_bytes: int
    all_cores: float | None = None
    tiles: TileCost | None = None


def fitted(samples: Sequence[Sample]) -> CostModel:
    """The model nearest to the samples; with fewer than two, the default cost.

    No term is negative, and errors count by their share, not their size. Memory is raised until no sample
    lies above it: it is reserved by what is predicted.
    """
    if len(samples) < 2:
        return UNMEASURED
    fixed_s, per_voxel_s, per_litre_s = _nearest(samples, [sample.seconds for sample in samples])
    peaks = [float(sample.peak_bytes) for sample in samples]
    terms = _nearest(samples, peaks)
    said = [max(terms[0] + terms[1] * sample.voxels + terms[2] * sample.litres, 1.0) for sample in samples]
    raised = _RESERVE * max(1.0, *(peak / by for peak, by in zip(peaks, said, strict=True)))
    tiles = next((sample.tiles for sample in samples if sample.tiles is not None), None)
    all_cores = next((sample.all_cores for sample in samples if sample.all_cores is not None), None)
    fixed, per_voxel, per_litre = terms[0] * raised, _rounded(terms[1] * raised), _rounded(terms[2] * raised)
    # Where nearly nothing is fitted there is nothing to raise: what lacks is made good as a fixed amount.
    lacking = max(
        sample.peak_bytes - (fixed + per_voxel * sample.voxels + per_litre * sample.litres)
        for sample in samples
    )
    return CostModel(
        fixed_s=_rounded(fixed_s),
        per_voxel_s=_rounded(per_voxel_s),
        per_litre_s=_rounded(per_litre_s),
        peak_fixed_bytes=math.ceil(fixed + max(0.0, lacking)),
        peak_bytes_per_voxel=per_voxel,
        peak_bytes_per_litre=per_litre,
        output_bytes_per_voxel=_rounded(max(s.output_bytes / s.voxels for s in samples)),
        all_cores=None if all_cores is None else _rounded(all_cores),
        tiles=tiles,
        measured=True,
    )


def _nearest(samples: Sequence[Sample], values: Sequence[float]) -> tuple[float, float, float]:
    """(fixed, per voxel, per litre), none negative, with the least sum of squared relative errors."""
    from scipy.optimize import nnls

    floor = max(values) * 1e-3
    if not floor:
        return 0.0, 0.0, 0.0
    features = np.array([[1.0, sample.voxels, sample.litres] for sample in samples])
    scale = features.max(axis=0)
    wanted = np.maximum(values, floor)
    terms, _ = nnls(features / scale / wanted[:, None], np.ones(len(samples)))
    fixed, per_voxel, per_litre = (float(term) for term in terms / scale)
    return fixed, per_voxel, per_litre


def _rounded(value: float) -> float:
    """Three digits: more would be noise in the binding."""
    return float(f"{value:.3g}")

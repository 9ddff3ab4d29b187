"""Crops before steps that work voxel by voxel or resample, so that they have less to do. Bit-exact."""

from models.operators.crop import CropTo
from models.operators.intensity import Clip, Normalise
from models.operators.normalise_volume import NormaliseVolume, NormaliseWith
from models.operators.pointwise import Pointwise
from models.operators.resample import Resample
from models.operators.resample_cropped import ResampleCropped
from planner.graph import Uses, Work
from planner.rules.rule import Rule, everywhere
from planner.rules.share_statistics import with_statistics


def crop_first(work: Work, uses: Uses) -> Work | None:
    """crop(f(x), mask) is f(crop(x, mask)); with resampling, only what the crop keeps is resampled.

    Normalising by a volume's own numbers still takes those of the whole volume. None if others read the
    whole f(x).
    """
    if not isinstance(work.operator, CropTo):
        return None
    inner, mask = work.inputs
    if not isinstance(inner, Work) or uses.get(inner.id) != 1:
        return None
    if isinstance(inner.operator, NormaliseVolume):
        inner = with_statistics(inner, [inner.operator])
    volume, *others = inner.inputs
    match inner.operator:
        case Clip() | Normalise() | Pointwise() | NormaliseWith():
            cropped = Work(work.operator, (volume, mask), work.step)
            return Work(inner.operator, (cropped, *others), inner.step)
        case Resample() as resample:
            part = ResampleCropped(
                spacing_mm=resample.spacing_mm,
                in_plane=resample.in_plane,
                finer=resample.finer,
                margin_mm=work.operator.margin_mm,
            )
            return Work(part, (volume, mask), f"{inner.step}+{work.step}")
    return None


CROP_FIRST = Rule("crop_first", everywhere(crop_first))

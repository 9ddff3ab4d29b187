"""Crops before voxel-by-voxel steps rather than after them, so that they walk a smaller volume. Bit-exact."""

from models.operators.crop import CropTo
from models.operators.intensity import Clip, Normalise
from models.operators.pointwise import Pointwise
from planner.graph import Uses, Work
from planner.rules.rule import Rule, everywhere


def crop_first(work: Work, uses: Uses) -> Work | None:
    """crop(pointwise(x), mask) is pointwise(crop(x, mask)). None if others read the whole pointwise(x)."""
    if not isinstance(work.operator, CropTo):
        return None
    inner, mask = work.inputs
    if (
        isinstance(inner, Work)
        and isinstance(inner.operator, Clip | Normalise | Pointwise)
        and uses.get(inner.id) == 1
    ):
        return Work(inner.operator, (Work(work.operator, (*inner.inputs, mask), work.step),), inner.step)
    return None


CROP_FIRST = Rule("crop_first", everywhere(crop_first))

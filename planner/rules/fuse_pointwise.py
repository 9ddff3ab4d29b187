"""Joins voxel-by-voxel steps that follow each other, so that the volume is walked once. Bit-exact."""

from models.operators.base import Operator
from models.operators.intensity import Clip, Normalise
from models.operators.pointwise import Pointwise, PointwiseStep
from planner.graph import Uses, Work
from planner.rules.rule import Rule, everywhere


def fuse_pointwise(work: Work, uses: Uses) -> Work | None:
    """normalise(clip(x)) is one pointwise operator. None if others read the result in between."""
    if len(work.inputs) != 1:
        return None
    (inner,) = work.inputs
    if not isinstance(inner, Work) or uses.get(inner.id) != 1:
        return None
    first, second = _steps(inner.operator), _steps(work.operator)
    if not first or not second:
        return None
    return Work(Pointwise(steps=first + second), inner.inputs, f"{inner.step}+{work.step}")


def _steps(operator: Operator) -> tuple[PointwiseStep, ...]:
    """The operator as pointwise steps; none if it is not voxel by voxel."""
    match operator:
        case Clip():
            return (PointwiseStep(op="clip", numbers=(operator.min_hu, operator.max_hu)),)
        case Normalise():
            return (PointwiseStep(op="normalise", numbers=(operator.offset, operator.scale)),)
        case Pointwise():
            return operator.steps
    return ()


FUSE_POINTWISE = Rule("fuse_pointwise", everywhere(fuse_pointwise))

"""Makes one clip of two on end: their common range is computed now. Bit-exact but for a zero's sign."""

from models.operators.pointwise import Pointwise, PointwiseStep
from planner.graph import Uses, Work
from planner.rules.rule import Rule, everywhere


def merge_clips(work: Work, uses: Uses) -> Work | None:
    """clip to a range, then to another that overlaps it, is clip to what both have in common."""
    if not isinstance(work.operator, Pointwise):
        return None
    merged: list[PointwiseStep] = []
    for step in work.operator.steps:
        common = _common(merged[-1], step) if merged else None
        if common is None:
            merged.append(step)
        else:
            merged[-1] = common
    if len(merged) == len(work.operator.steps):
        return None
    return Work(Pointwise(steps=tuple(merged)), work.inputs, work.step)


def _common(first: PointwiseStep, second: PointwiseStep) -> PointwiseStep | None:
    if first.op != "clip" or second.op != "clip":
        return None
    low = max(first.numbers[0], second.numbers[0])
    high = min(first.numbers[1], second.numbers[1])
    return PointwiseStep(op="clip", numbers=(low, high)) if low < high else None


MERGE_CLIPS = Rule("merge_clips", everywhere(merge_clips))

"""Resamples a volume once where several branches resample it to one grid, some after scaling its values.

Linear interpolation and (value - offset) * scale commute but for rounding; clipping commutes with neither and
stays where it is.
"""

from models.operators.intensity import Normalise
from models.operators.normalise_volume import NormaliseVolume, NormaliseWith
from models.operators.pointwise import Pointwise
from models.operators.resample import Resample
from planner.graph import Graph, Source, Work
from planner.rules.rule import Rule
from planner.rules.share_statistics import with_statistics

TOLERANCE = 1e-5
"""Of the largest magnitude of what is normalised, after scaling. Rounding alone: a few times 2**-24 of it."""


def merge_resamplings(graph: Graph) -> Graph:
    """resample(normalise(x)) becomes normalise(resample(x)) where others need the same resampling of x."""
    for _ in range(len(graph.nodes) + 1):
        graph = graph.without_dead()
        merged = _merged(graph)
        if merged == graph:
            break
        graph = merged
    return graph


def _merged(graph: Graph) -> Graph:
    wanted: dict[tuple[Resample, str], set[str]] = {}
    for node in graph.nodes:
        if isinstance(node.operator, Resample):
            below = _unscaled(node.inputs[0])
            wanted.setdefault((node.operator, below.id), set()).add(node.id)

    def swap(work: Work) -> Work | None:
        if not isinstance(work.operator, Resample):
            return None
        inner = work.inputs[0]
        if len(wanted.get((work.operator, _unscaled(inner).id), ())) < 2 or not _is_scaling(inner):
            return None
        assert isinstance(inner, Work)
        if isinstance(inner.operator, NormaliseVolume):
            inner = with_statistics(inner, [inner.operator])
        volume, *others = inner.inputs
        return Work(inner.operator, (Work(work.operator, (volume,), work.step), *others), inner.step)

    return graph.rewritten(swap)


def _unscaled(work: Work | Source) -> Work | Source:
    """What is below all scaling on top of `work`."""
    while _is_scaling(work):
        assert isinstance(work, Work)
        work = work.inputs[0]
    return work


def _is_scaling(work: Work | Source) -> bool:
    """Whether it does nothing but (value - offset) * scale, with numbers that are those of all voxels."""
    if not isinstance(work, Work):
        return False
    match work.operator:
        case Normalise():
            return True
        case NormaliseVolume(clip=False) | NormaliseWith(clip=False):
            return True
        case Pointwise(steps=steps):
            return all(step.op == "normalise" for step in steps)
    return False


MERGE_RESAMPLINGS = Rule("merge_resamplings", merge_resamplings, TOLERANCE)

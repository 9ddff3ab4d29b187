"""Statistics of a volume computed once for all normalisations that need some. Bit-exact."""

from collections.abc import Mapping, Sequence

from models.operators.normalise_volume import NormaliseVolume
from models.operators.statistics import Statistics
from planner.graph import Graph, Work
from planner.rules.rule import Rule


def share_statistics(graph: Graph) -> Graph:
    """Where a volume is normalised in several ways: one `statistics` of it, which all of them read.

    One pass over the sorted voxels serves every quantile, and a range and its clipped form share their ends.
    """
    for _ in range(len(graph.nodes) + 1):
        graph = graph.without_dead()
        together: dict[str, list[NormaliseVolume]] = {}
        for node in graph.nodes:
            if isinstance(node.operator, NormaliseVolume):
                together.setdefault(node.inputs[0].id, []).append(node.operator)
        shared = graph.rewritten(lambda work, together=together: _split(work, together))  # type: ignore[misc]
        if shared == graph:
            break
        graph = shared
    return graph


def _split(work: Work, together: Mapping[str, Sequence[NormaliseVolume]]) -> Work | None:
    """A volume whose identity just changed is not among those of `together`: its turn comes next."""
    if not isinstance(work.operator, NormaliseVolume):
        return None
    alike = together.get(work.inputs[0].id, ())
    return with_statistics(work, alike) if len(alike) > 1 else None


def with_statistics(work: Work, together: Sequence[NormaliseVolume]) -> Work:
    """The normalisation `work` as one that reads the numbers which all of `together` need."""
    assert isinstance(work.operator, NormaliseVolume)
    (volume,) = work.inputs
    asked = [operator.statistics() for operator in together]
    statistics = Statistics(
        quantities=tuple(sorted({quantity for one in asked for quantity in one.quantities})),
        quantiles=tuple(sorted({share for one in asked for share in one.quantiles})),
    )
    before = volume.step if isinstance(volume, Work) else "series"
    measured = Work(statistics, (volume,), f"statistics of {before}")
    return Work(work.operator.given_statistics(), (volume, measured), work.step)


SHARE_STATISTICS = Rule("share_statistics", share_statistics)

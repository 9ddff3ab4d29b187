"""Drives the rules over a graph, and after each one makes sure that it kept what every rule must keep.

No rule evaluates constant stages, for there are none: every operator reads what was made of the series. What
is constant within a network is computed when the network is opened (planner.networks.reading.canonical).
"""

from models.errors import PipelineError
from models.values import ValueType
from planner.errors import RuleBroke
from planner.graph import Graph
from planner.rules.argmax_upsampled import ARGMAX_UPSAMPLED
from planner.rules.crop_first import CROP_FIRST
from planner.rules.drop_dead import DROP_DEAD
from planner.rules.drop_idempotent import DROP_IDEMPOTENT
from planner.rules.fold_ensemble import FOLD_ENSEMBLE
from planner.rules.fuse_pointwise import FUSE_POINTWISE
from planner.rules.merge_clips import MERGE_CLIPS
from planner.rules.merge_resamplings import MERGE_RESAMPLINGS
from planner.rules.mirror_as_batch import MIRROR_AS_BATCH
from planner.rules.rule import Rule
from planner.rules.share_statistics import SHARE_STATISTICS

RULES: tuple[Rule, ...] = (
    DROP_IDEMPOTENT,
    ARGMAX_UPSAMPLED,
    SHARE_STATISTICS,  # before a crop takes one normalisation, with statistics of its own, from the others
    MERGE_RESAMPLINGS,  # before a crop makes one of them a resampling that no other is equal to
    CROP_FIRST,  # before fusing: a crop between two pointwise steps would keep them apart
    FUSE_POINTWISE,
    MERGE_CLIPS,  # after fusing, which brings clips together
    MIRROR_AS_BATCH,
    FOLD_ENSEMBLE,  # after mirroring: each fold may have been written with its mirror images
    DROP_DEAD,  # last: it sweeps up what the others left
)

_MOST_ROUNDS = 10
"""Of all rules together. What one rule makes may be what another waits for; two rounds are usual."""


def rewrite(graph: Graph, rules: tuple[Rule, ...] = RULES) -> Graph:
    """The graph after all rules, in order and again until they change nothing: rewriting it anew does not.

    Raises: RuleBroke naming the rule.
    """
    promised = _types(graph)
    for _ in range(_MOST_ROUNDS):
        before = graph
        for rule in rules:
            graph = _applied(rule, graph, promised)
        if graph == before:
            return graph
    raise RuleBroke(rules[-1].name, f"and the others still change the graph after {_MOST_ROUNDS} rounds")


def _applied(rule: Rule, graph: Graph, promised: dict[str, ValueType]) -> Graph:
    try:
        graph = rule.apply(graph)
    except PipelineError as error:
        raise RuleBroke(rule.name, f"made a graph whose types do not fit: {error}") from error
    kept = _types(graph)
    for output, before in promised.items():
        if kept.get(output) != before:
            raise RuleBroke(rule.name, f"changed {output} from {before} to {kept.get(output)}")
    return graph


def _types(graph: Graph) -> dict[str, ValueType]:
    """What the outputs are, by name."""
    types: dict[str, ValueType] = {}
    for o in graph.outputs:
        types[f"{o.output.name}.mask"] = o.mask.type
        if o.measurements is not None:
            types[f"{o.output.name}.measurements"] = o.measurements.type
    return types

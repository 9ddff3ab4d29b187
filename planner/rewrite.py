"""Drives the rules over a graph, and after each one makes sure that it kept what every rule must keep."""

from models.errors import PipelineError
from models.values import ValueType
from planner.errors import RuleBroke
from planner.graph import Graph
from planner.rules.crop_first import CROP_FIRST
from planner.rules.drop_dead import DROP_DEAD
from planner.rules.drop_idempotent import DROP_IDEMPOTENT
from planner.rules.fuse_pointwise import FUSE_POINTWISE
from planner.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    DROP_IDEMPOTENT,
    CROP_FIRST,  # before fusing: a crop between two pointwise steps would keep them apart
    FUSE_POINTWISE,
    DROP_DEAD,  # last: it sweeps up what the others left
)


def rewrite(graph: Graph, rules: tuple[Rule, ...] = RULES) -> Graph:
    """The graph after all rules, in order. Raises: RuleBroke naming the rule."""
    promised = _types(graph)
    for rule in rules:
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

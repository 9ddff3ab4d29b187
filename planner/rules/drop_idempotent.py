"""Drops an operator applied to its own result where the second time changes nothing. Bit-exact.

Operators say so themselves (`idempotent`): reorient, fill holes, the largest component, clip ...
"""

from planner.graph import Graph, Work
from planner.rules.rule import Rule


def drop_idempotent(graph: Graph) -> Graph:
    """The graph where f(f(x)) is f(x), for equal parameters and equal further inputs."""
    return graph.rewritten(_inner)


def _inner(work: Work) -> Work | None:
    if not work.operator.idempotent:
        return None
    first, *others = work.inputs
    if isinstance(first, Work) and first.operator == work.operator and list(first.inputs[1:]) == others:
        return first
    return None


DROP_IDEMPOTENT = Rule("drop_idempotent", drop_idempotent)

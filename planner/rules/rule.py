"""What a rule is: a function from a graph to a better graph, and what it promises to keep."""

from collections.abc import Callable
from dataclasses import dataclass

from planner.graph import Graph, Uses, Work


@dataclass(frozen=True, slots=True)
class Rule:
    """`apply` gives an equivalent graph, the same one if there is nothing to do.

    tolerance: how far results may be from what they were, in their unit; 0 is bit-exact.
    """

    name: str
    apply: Callable[[Graph], Graph]
    tolerance: float = 0.0


def everywhere(improve: Callable[[Work, Uses], Work | None]) -> Callable[[Graph], Graph]:
    """A rule that improves one node at a time, applied until nothing more can be improved.

    improve: gives the better node, or None; it is told how often each node of the graph is read.
    """

    def apply(graph: Graph) -> Graph:
        for _ in range(len(graph.nodes) + 1):
            graph = graph.without_dead()
            uses = graph.uses()
            improved = graph.rewritten(lambda work, uses=uses: improve(work, uses))  # type: ignore[misc]
            if improved == graph:
                break
            graph = improved
        return graph

    return apply

"""Drops nodes that no output needs: what other rules left behind. Bit-exact."""

from planner.graph import Graph
from planner.rules.rule import Rule


def drop_dead(graph: Graph) -> Graph:
    """The graph without nodes that reach no output."""
    live = graph.live()
    if len(live) == len(graph.nodes):
        return graph
    return Graph(tuple(node for node in graph.nodes if node.id in live), graph.outputs)


DROP_DEAD = Rule("drop_dead", drop_dead)

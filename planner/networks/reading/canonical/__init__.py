"""Bring a network into canonical form: equal networks, equal structure, whoever exported them."""

from typing import Any

from numpy.typing import NDArray

from planner.networks.reading.canonical.affine import gather_affine
from planner.networks.reading.canonical.attributes import spell_attributes
from planner.networks.reading.canonical.fold import fold_constants
from planner.networks.reading.canonical.graph import Graph
from planner.networks.reading.canonical.inference import infer_types
from planner.networks.reading.canonical.layout import sink_transposes
from planner.networks.reading.canonical.order import in_canonical_order
from planner.networks.reading.canonical.ports import name_free_sizes, types_of_outputs
from planner.networks.reading.canonical.removal import merge_equal, remove_idle
from planner.networks.reading.canonical.spelling import spell_operators
from planner.networks.reading.canonical.upgrade import upgrade
from planner.networks.reading.limits import Limits
from planner.networks.structure import Structure

MOST_ROUNDS = 12
"""A guess: networks met so far are done after three."""


def canonicalise(graph: Graph, limits: Limits) -> tuple[Structure, dict[str, NDArray[Any]]]:
    """The structure and the learned tensors of a network; `graph` is used up.

    Outputs are those of the file within rounding. Doing it again changes nothing.
    Raises: AbsurdConstant (fold), where constants would grow beyond `limits`; NotOpenable: no-shape.
    """
    name_free_sizes(graph)
    graph.drop_unused()
    infer_types(graph)
    for _ in range(MOST_ROUNDS):
        before = _trace(graph)
        upgrade(graph)  # again, as it may take more to be known
        remove_idle(graph)
        spell_operators(graph)
        fold_constants(graph, limits)
        spell_attributes(graph)
        sink_transposes(graph)
        merge_equal(graph)
        gather_affine(graph)  # after the Transposes are gone, which would stand between
        infer_types(graph)
        if _trace(graph) == before:
            break
    return in_canonical_order(graph, types_of_outputs(graph))


def _trace(graph: Graph) -> list[tuple[str, int, int]]:
    """What a round that changed nothing leaves as it was."""
    return [("", graph.opset, 0)] + [
        (node.type, len(node.inputs), len(node.attributes)) for node in graph.nodes
    ]

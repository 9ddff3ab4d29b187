"""What a rule is: a function from a graph to a better graph, and what it promises to keep."""

from collections.abc import Callable
from dataclasses import dataclass

from planner.graph import Graph


@dataclass(frozen=True, slots=True)
class Rule:
    """`apply` gives an equivalent graph, the same one if there is nothing to do.

    tolerance: how far results may be from what they were, in their unit; 0 is bit-exact.
    """

    name: str
    apply: Callable[[Graph], Graph]
    tolerance: float = 0.0

"""Two or more sides measured in turn: A B A B, so that what drifts on the machine meets all of them alike."""

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def in_turn(sides: Mapping[str, Callable[[int], T]], rounds: int) -> dict[str, list[T]]:
    """Run every side once per round, in the order given; each is told the number of the round."""
    results: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            results[name].append(measure(number))
    return results

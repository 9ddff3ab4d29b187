"""From the fastest mixture of levels to all fp32, each step the layer that buys most accuracy per second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.networks.precision.layers import Level

Levels = tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """levels: by layer. error: predicted, of the outputs, as if layers' errors were independent; seconds:
    predicted, of one run."""

    levels: Levels
    error: float
    seconds: float


def ladder(
    errors: Sequence[Mapping[Level, float]], seconds: Sequence[Mapping[Level, float]]
) -> tuple[Rung, ...]:
    """Rungs from fastest to most exact; the last is all fp32.

    errors, seconds: of each layer at each level that it may take (fp32 always, with error 0). Every step
    raises the layer whose error (squared) falls most per second added. Deterministic.
    """
    levels = [min(costs, key=lambda level: (costs[level], level)) for costs in seconds]
    rungs = [_rung(levels, errors, seconds)]
    while True:
        steps = [
            (gain / max(added, 1e-9), -layer, level)
            for layer, now in enumerate(levels)
            for level in errors[layer]
            if (gain := errors[layer][now] ** 2 - errors[layer][level] ** 2) > 0
            and (added := seconds[layer][level] - seconds[layer][now]) >= 0
        ]
        if not steps:
            break
        _, layer, level = max(steps)
        levels[-layer] = level
        rungs.append(_rung(levels, errors, seconds))
    if any(level != "fp32" for level in levels):
        rungs.append(_rung(["fp32"] * len(levels), errors, seconds))
    return tuple(rungs)


def _rung(
    levels: Sequence[Level], errors: Sequence[Mapping[Level, float]], seconds: Sequence[Mapping[Level, float]]
) -> Rung:
    square = sum(errors[layer][level] ** 2 for layer, level in enumerate(levels))
    return Rung(tuple(levels), square**0.5, sum(seconds[layer][level] for layer, level in enumerate(levels)))

"""How many labels of a network are those of plain onnxruntime on its file, input by input.

In fp32 outputs are compared as numbers (real_families). In any other precision the numbers differ: what is
asked of it is the gate's Dice, on real images; how it does elsewhere is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.networks.precision.gate import Gate, Labels, Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of several inputs. equal: share of all labels that are the same; least: that of the worst input.

    verdict: what the gate says of all inputs as one case.
    """

    inputs: int
    equal: float
    least: float
    verdict: Verdict


def agreement(theirs: Sequence[Labels], ours: Sequence[Labels], gate: Gate) -> Agreement:
    """theirs, ours: labels of one input after the other, of equal shapes. Raises: ValueError without any."""
    if not theirs:
        raise ValueError("there is no input to compare labels on")
    same = [int((one == other).sum()) for one, other in zip(theirs, ours, strict=True)]
    sizes = [one.size for one in theirs]
    return Agreement(
        inputs=len(theirs),
        equal=sum(same) / sum(sizes),
        least=min(count / size for count, size in zip(same, sizes, strict=True)),
        verdict=judge("these inputs", theirs, ours, gate),
    )

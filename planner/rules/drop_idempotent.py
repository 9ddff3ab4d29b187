"""Drops an operator applied to its own result where the second time changes nothing. Bit-exact.

Operators say so themselves: `idempotent`.
"""

from planner.graph import Uses, Work
from planner.rules.rule import Rule, everywhere


def drop_idempotent(work: Work, uses: Uses) -> Work | None:
    """f(f(x)) is f(x), for equal parameters and equal further inputs."""
    if not work.operator.idempotent or not work.inputs:
        return None
    first, *others = work.inputs
    if isinstance(first, Work) and first.operator == work.operator and list(first.inputs[1:]) == others:
        return first
    return None


DROP_IDEMPOTENT = Rule("drop_idempotent", everywhere(drop_idempotent))

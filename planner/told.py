"""Tells who asked for a computation in another process which step it is at, should it have to be stopped."""

from models.operators.base import Operator
from planner.execute import OperatorFrom
from planner.networks.apart_child import doing
from planner.plan import Node


def told(operators: OperatorFrom) -> OperatorFrom:
    """The same operators, and who asked is told of each step as it begins (planner.networks.apart_child).

    Of several networks that are computed together the last one is named.
    """

    def operator(node: Node) -> Operator:
        doing(node.step)
        return operators(node)

    return operator

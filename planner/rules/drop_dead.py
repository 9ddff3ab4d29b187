"""Drops nodes that no output needs: what other rules left behind. Bit-exact."""

from planner.graph import Graph
from planner.rules.rule import Rule

DROP_DEAD = Rule("drop_dead", Graph.without_dead)

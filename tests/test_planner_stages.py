"""Cutting plans into stages again, with what was remembered of them, gives what cutting them anew gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from models.operators.base import Granularity, Operator
from planner.binding import Stage
from planner.plan import SOURCE, Node, Plan, PlannedOutput, node_identity
from planner.stages import Remembered, cut_stages
from tests.planner_cases import bare_plan


@dataclass(frozen=True)
class Way:
    """How an operator runs: all that cutting asks of one."""

    granularity: Granularity
    holds_gil: bool
    per_job: bool


WAYS: Mapping[str, Way] = {
    "a": Way(Granularity.VOLUME, holds_gil=False, per_job=False),
    "b": Way(Granularity.VOLUME, holds_gil=True, per_job=False),
    "c": Way(Granularity.IMAGE, holds_gil=True, per_job=True),
}


def way_of(node: Node) -> Operator:
    return WAYS[node.operator]  # type: ignore[return-value]


def node(operator: str, number: int, inputs: Sequence[str]) -> Node:
    parameters: dict[str, Any] = {"number": number}
    return Node(
        id=node_identity(operator, 1, parameters, tuple(inputs)),
        step=f"{operator}{number}",
        operator=operator,
        version=1,
        parameters=parameters,
        inputs=tuple(inputs),
    )


def plan(name: str, nodes: Sequence[Node]) -> Plan:
    last = nodes[-1].id
    output = PlannedOutput(
        name="o", description="", mask=last, segmentation=last, measurements=None, segments=()
    )
    return bare_plan(*nodes, pipeline=name, outputs=[output])


@st.composite
def plans(draw: Callable[..., Any]) -> dict[str, Plan]:
    """Up to six plans out of twelve nodes, so that most have some in common."""
    pool: list[Node] = []
    for number in range(12):
        before = [SOURCE, *(each.id for each in pool)]
        inputs = draw(st.lists(st.sampled_from(before), min_size=1, max_size=2, unique=True))
        pool.append(node(draw(st.sampled_from(sorted(WAYS))), number, inputs))
    found = {}
    for number in range(draw(st.integers(2, 6))):
        wanted = {each.id for each in draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))}
        for each in reversed(pool):
            if each.id in wanted:
                wanted.update(each.inputs)
        found[f"digest {number}"] = plan(f"p{number}", [each for each in pool if each.id in wanted])
    return found


def check_order(stages: Sequence[Stage], all_plans: Mapping[str, Plan]) -> None:
    """Each plan's nodes are computed once, after what they read."""
    for digest, one in all_plans.items():
        done, mine = {SOURCE}, [stage for stage in stages if digest in stage.plans]
        for stage in mine:
            assert done.issuperset(stage.takes)
            done.update(stage.gives)
        assert sorted(n for stage in mine for n in stage.nodes) == sorted(n.id for n in one.nodes)
        assert one.outputs[0].mask in done


@given(plans(), st.randoms(use_true_random=False))
def test_what_was_remembered_changes_no_stage(all_plans: dict[str, Plan], chance: Any) -> None:
    remembered = Remembered()
    digests = list(all_plans)
    for _ in range(4):
        some = chance.sample(digests, chance.randint(1, len(digests)))
        live = {digest: all_plans[digest] for digest in some}
        again = cut_stages(live, way_of, remembered=remembered)
        assert again == cut_stages(dict(sorted(live.items())), way_of)
        check_order(again, live)

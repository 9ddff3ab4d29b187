"""A rule keeps the meaning of every graph, bit for bit, and does what it is there for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import PipelineError
from models.operators.base import KernelContext, Operator
from models.operators.crop import CropTo
from models.operators.intensity import Clip, Normalise
from models.operators.pointwise import Pointwise, PointwiseStep
from models.operators.reorient import Reorient
from models.operators.restore import RestoreToSource
from models.operators.threshold import Threshold
from models.pipeline import Output, SegmentCode
from models.pipeline_file import bundled_pipelines, pipeline_path, read_pipeline
from models.values import HU, Kind, LabelMap, SourcePlanes, Value, ValueType, Volume
from planner.errors import RuleBroke
from planner.graph import Graph, GraphOutput, Source, Work, reachable
from planner.rewrite import RULES, rewrite
from planner.rules.crop_first import CROP_FIRST
from planner.rules.drop_dead import DROP_DEAD
from planner.rules.drop_idempotent import DROP_IDEMPOTENT
from planner.rules.fuse_pointwise import FUSE_POINTWISE
from planner.rules.rule import Rule
from tests.planner_cases import NoResources

SHAPE = (4, 5, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Operator):
    """Stands for decode and stack: a noisy volume on its own source planes."""

    name: ClassVar[str] = "scan"
    seed: int = 0

    def infer(self, inputs: Any) -> ValueType:
        return ValueType(kind=Kind.VOLUME, unit=HU, on_source_grid=True)

    def apply(self, inputs: Any, context: KernelContext) -> Value:
        voxels = np.random.default_rng(self.seed).normal(0, 300, SHAPE).astype(np.float32)
        affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
        planes = SourcePlanes(
            image_index=tuple(range(SHAPE[0])),
            positions_mm=np.array([[0.0, 0.0, 2.0 * z] for z in range(SHAPE[0])]),
            image_orientation_patient=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            pixel_spacing=(1.0, 1.0),
            rows=SHAPE[1],
            columns=SHAPE[2],
        )
        return Volume(voxels, affine, HU, planes)


def work(operator: Operator, *inputs: Work | Source, step: str = "") -> Work:
    return Work(operator, inputs, step or operator.name)


SCAN = work(Scan(), Source())
CONTEXT = KernelContext(resources=NoResources())
SEGMENT = SegmentCode(name="Dense", category=("1", "SCT", "T"), type=("2", "SCT", "T"))


def graph_to(mask: Work) -> Graph:
    output = Output(name="dense", description="", mask=mask.step, segments=(SEGMENT,))
    return Graph(tuple(reachable([mask])), (GraphOutput(output, mask, None),))


def computed(graph: Graph) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for node in graph.nodes:
        inputs = [values[value.id] for value in node.inputs if isinstance(value, Work)]
        values[node.id] = node.operator.apply(inputs, CONTEXT)
    return {output.output.name: values[output.mask.id] for output in graph.outputs}


def assert_equal(before: Mapping[str, Value], after: Mapping[str, Value]) -> None:
    assert before.keys() == after.keys()
    for name, ours in before.items():
        theirs = after[name]
        assert isinstance(ours, LabelMap)
        assert isinstance(theirs, LabelMap)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        assert ours.segments == theirs.segments


def ops(graph: Graph) -> list[str]:
    return [node.operator.name for node in graph.nodes]


hounsfield = st.integers(-500, 500).map(float)
clips = st.tuples(hounsfield, st.integers(1, 500)).map(lambda t: Clip(min_hu=t[0], max_hu=t[0] + t[1]))
normalises = st.builds(Normalise, offset=hounsfield, scale=st.sampled_from([0.001, 0.5, 3.0, -1.0]))
reorients = st.sampled_from([Reorient(orientation=o) for o in ("SPL", "IAR", "LPS")])


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Chains with branches of clip, normalise, reorient and crop, ending in a mask on the source grid."""
    volumes = [SCAN]
    body = work(Threshold(min_hu=draw(hounsfield), segment="Body"), SCAN)
    for number in range(draw(st.integers(1, 7))):
        source = draw(st.sampled_from(volumes[-3:]))
        kinds: list[st.SearchStrategy[Operator]] = [normalises, reorients, st.just(CropTo(margin_mm=1.0))]
        if source.type.unit == HU:
            kinds += [clips, clips]
        operator = draw(st.one_of(kinds))
        others = (body,) if isinstance(operator, CropTo) else ()
        volumes.append(work(operator, source, *others, step=f"s{number}"))
    last = next((v for v in reversed(volumes) if v.type.unit == HU), SCAN)
    mask = work(Threshold(min_hu=draw(hounsfield), segment="Dense"), last)
    return Graph(
        tuple(reachable([*volumes, work(RestoreToSource(), mask, SCAN)])),
        graph_to(work(RestoreToSource(), mask, SCAN)).outputs,
    )


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), rule=st.sampled_from(RULES))
def test_a_rule_keeps_the_meaning_of_every_graph(graph: Graph, rule: Rule) -> None:
    """Bit for bit: of these operators, no rule that has a tolerance finds any to change."""
    assert_equal(computed(graph), computed(rewrite(graph, (rule,))))


@settings(max_examples=30, deadline=None)
@given(graph=graphs())
def test_all_rules_together_keep_the_meaning_and_settle(graph: Graph) -> None:
    once = rewrite(graph)
    assert_equal(computed(graph), computed(once))
    assert rewrite(once) == once


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.one_of(clips, normalises), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_pointwise_is_bit_for_bit_its_steps(steps: list[Clip | Normalise], seed: int) -> None:
    volume: Value = Scan(seed=seed).apply((), CONTEXT)
    fused = []
    expected = volume
    for step in steps:
        numbers = (step.min_hu, step.max_hu) if isinstance(step, Clip) else (step.offset, step.scale)
        fused.append(PointwiseStep(op="clip" if isinstance(step, Clip) else "normalise", numbers=numbers))
        expected = step.apply([expected], CONTEXT)
    result = Pointwise(steps=tuple(fused)).apply([volume], CONTEXT)
    assert isinstance(result, Volume)
    assert isinstance(expected, Volume)
    assert result.voxels.tobytes() == expected.voxels.tobytes()
    assert result.unit == expected.unit


def chain(*operators: Operator) -> Work:
    last: Work = SCAN
    for number, operator in enumerate(operators):
        last = work(operator, last, step=f"c{number}")
    return last


def test_reorienting_twice_alike_is_once() -> None:
    graph = graph_to(work(Threshold(min_hu=0, segment="Dense"), chain(Reorient(), Reorient(), Reorient())))
    assert ops(rewrite(graph, (DROP_IDEMPOTENT,))) == ["scan", "reorient", "threshold"]
    turned = chain(Reorient(), Reorient(orientation="IAR"), Reorient())
    unlike = graph_to(work(Threshold(min_hu=0, segment="Dense"), turned))
    assert ops(rewrite(unlike, (DROP_IDEMPOTENT,))).count("reorient") == 3


def test_a_chain_of_pointwise_steps_becomes_one() -> None:
    last = chain(Clip(min_hu=-9, max_hu=9), Clip(min_hu=-5, max_hu=5), Clip(min_hu=0, max_hu=4))
    graph = rewrite(graph_to(work(Threshold(min_hu=0, segment="Dense"), last)), (FUSE_POINTWISE,))
    assert ops(graph) == ["scan", "pointwise", "threshold"]
    assert graph.nodes[1].step == "c0+c1+c2"


def test_a_result_that_others_read_is_not_fused_away() -> None:
    clipped = chain(Clip(min_hu=-9, max_hu=9))
    first = work(Threshold(min_hu=0, segment="Dense"), work(Clip(min_hu=-5, max_hu=5), clipped))
    two = graph_to(first)
    other = graph_to(work(Threshold(min_hu=1, segment="Dense"), clipped))
    both = Graph(tuple(reachable([*two.nodes, *other.nodes])), two.outputs + other.outputs)
    assert ops(rewrite(both, (FUSE_POINTWISE,))).count("clip") == 2


def test_a_crop_comes_before_what_it_makes_smaller() -> None:
    body = work(Threshold(min_hu=0, segment="Body"), SCAN)
    cropped = work(CropTo(), chain(Clip(min_hu=-9, max_hu=9), Clip(min_hu=-5, max_hu=5)), body, step="crop")
    graph = graph_to(work(Threshold(min_hu=0, segment="Dense"), cropped))
    assert ops(rewrite(graph, (CROP_FIRST,))) == ["scan", "threshold", "crop_to", "clip", "clip", "threshold"]
    assert ops(rewrite(graph)) == ["scan", "threshold", "crop_to", "pointwise", "threshold"]


def test_dead_nodes_go() -> None:
    graph = graph_to(work(Threshold(min_hu=0, segment="Dense"), SCAN))
    littered = replace(graph, nodes=(*graph.nodes, work(Clip(min_hu=0, max_hu=1), SCAN)))
    assert rewrite(littered, (DROP_DEAD,)) == graph


def test_a_rule_that_changes_a_type_is_blamed_by_name() -> None:
    def spoil(graph: Graph) -> Graph:
        return graph_to(work(Threshold(min_hu=0, segment="Other"), SCAN))

    graph = graph_to(work(Threshold(min_hu=0, segment="Dense"), SCAN))
    with pytest.raises(RuleBroke, match="rule spoil changed dense.mask") as caught:  # noqa: RUF043
        rewrite(graph, (Rule("spoil", spoil),))
    assert caught.value.rule == "spoil"


def test_a_rule_that_makes_an_impossible_graph_is_blamed_by_name() -> None:
    def spoil(graph: Graph) -> Graph:
        return graph_to(work(Clip(min_hu=0, max_hu=1), work(Normalise(offset=0, scale=2), SCAN)))

    with pytest.raises(RuleBroke, match="rule spoil made a graph whose types do not fit"):
        rewrite(graph_to(work(Threshold(min_hu=0, segment="Dense"), SCAN)), (Rule("spoil", spoil),))


@pytest.mark.parametrize("name", bundled_pipelines())
def test_no_step_computes_a_constant_for_each_reads_something(name: str) -> None:
    for step in read_pipeline(pipeline_path(name)).steps:
        with pytest.raises(PipelineError):
            step.operator.infer([])

"""Rules about grids, statistics and class values: planned equals unplanned, and does less."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.operators.argmax import Argmax
from models.operators.base import KernelContext, Operator
from models.operators.crop import CropTo
from models.operators.intensity import Clip, Normalise
from models.operators.normalise_volume import NormaliseVolume
from models.operators.pointwise import Pointwise, PointwiseStep
from models.operators.resample import Resample
from models.operators.softmax import Softmax
from models.operators.statistics import Statistics
from models.operators.threshold import Threshold
from models.operators.upsample import Upsample
from models.pipeline import Output, SegmentCode, check
from models.pipeline_file import read_pipeline
from models.values import HU, Kind, LabelMap, ProbabilityMap, Value, ValueType, Volume
from planner.graph import Graph, GraphOutput, Source, Work, graph_of, reachable
from planner.lower import lower
from planner.rewrite import RULES, rewrite
from planner.rules.argmax_upsampled import ARGMAX_UPSAMPLED
from planner.rules.crop_first import CROP_FIRST
from planner.rules.merge_clips import MERGE_CLIPS
from planner.rules.merge_resamplings import MERGE_RESAMPLINGS
from planner.rules.share_statistics import SHARE_STATISTICS
from tests.imaging_cases import grid
from tests.planner_cases import NoResources

CONTEXT = KernelContext(resources=NoResources())
SEGMENT = SegmentCode(name="Dense", category=("1", "SCT", "T"), type=("2", "SCT", "T"))
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Operator):
    """Stands for all up to the volume."""

    name: ClassVar[str] = "scan"

    def infer(self, inputs: Any) -> ValueType:
        return ValueType(kind=Kind.VOLUME, unit=HU)

    def apply(self, inputs: Any, context: KernelContext) -> Value:
        voxels = np.random.default_rng(0).normal(0, 300, (5, 7, 8)).astype(np.float32)
        return Volume(voxels, grid((2.0, 1.0, 1.5)), HU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Operator):
    """Stands for a network: three classes on the grid of its volume."""

    name: ClassVar[str] = "fake_network"

    def infer(self, inputs: Any) -> ValueType:
        return ValueType(kind=Kind.PROBABILITY_MAP, segments=("a", "b"))

    def apply(self, inputs: Any, context: KernelContext) -> Value:
        (volume,) = inputs
        values = np.stack([np.sin(volume.voxels / 100 + phase) for phase in range(3)])
        return ProbabilityMap(values.astype(np.float32), volume.affine, ("a", "b"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bits(Operator):
    """Volumes -> LabelMap that holds their bytes, so that nothing about them is lost."""

    name: ClassVar[str] = "bits"

    def infer(self, inputs: Any) -> ValueType:
        return ValueType(kind=Kind.LABEL_MAP, segments=("Dense",))

    def apply(self, inputs: Any, context: KernelContext) -> Value:
        voxels = np.concatenate([volume.voxels.reshape(-1) for volume in inputs])
        affine = sum(volume.affine * weight for weight, volume in enumerate(inputs, start=1))
        return LabelMap(voxels.view(np.uint8).reshape(1, 1, -1), affine, ("Dense",))


def work(operator: Operator, *inputs: Work | Source, step: str = "") -> Work:
    return Work(operator, inputs, step or operator.name)


SCAN = work(Scan(), Source())
BODY = work(Threshold(min_hu=250.0, segment="Body"), SCAN)


def graph_to(*volumes: Work) -> Graph:
    """A graph whose output shows all of these volumes."""
    mask = volumes[0] if volumes[0].type.kind is Kind.LABEL_MAP else work(Bits(), *volumes)
    output = Output(name="dense", description="", mask=mask.step, segments=(SEGMENT,))
    return Graph(tuple(reachable([mask])), (GraphOutput(output, mask, None),))


def computed(graph: Graph) -> LabelMap:
    values: dict[str, Value] = {}
    for node in graph.nodes:
        inputs = [values[value.id] for value in node.inputs if isinstance(value, Work)]
        values[node.id] = node.operator.apply(inputs, CONTEXT)
    (result,) = (values[output.mask.id] for output in graph.outputs)
    assert isinstance(result, LabelMap)
    return result


def numbers(graph: Graph) -> Array:
    return computed(graph).labels.reshape(-1).view(np.float32)


def ops(graph: Graph) -> list[str]:
    return sorted(node.operator.name for node in graph.nodes if node != SCAN)


whole = st.integers(-500, 500).map(float)
clips = st.tuples(whole, st.integers(1, 500)).map(lambda t: Clip(min_hu=t[0], max_hu=t[0] + t[1]))
normalises = st.builds(Normalise, offset=whole, scale=st.sampled_from([0.001, 0.5, 3.0, -1.0]))
resamples = st.sampled_from(
    [
        Resample(spacing_mm=(1.0, 1.0, 1.0)),
        Resample(spacing_mm=(0.0, 2.0, 2.0)),
        Resample(spacing_mm=(3.0, 0.7, 3.0), finer="no"),
        Resample(in_plane=(3, 11)),
    ]
)
by_volume = st.sampled_from(
    [
        NormaliseVolume(by="min_max"),
        NormaliseVolume(by="min_max", clip=True),
        NormaliseVolume(by="quantiles"),
        NormaliseVolume(by="quantiles", low=0.1, high=0.5, clip=True),
        NormaliseVolume(by="z_score"),
    ]
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Chains with branches of everything numeric, all of whose ends are looked at."""
    volumes = [SCAN]
    for number in range(draw(st.integers(1, 8))):
        source = draw(st.sampled_from(volumes[-4:]))
        kinds: list[st.SearchStrategy[Operator]] = [normalises, resamples, by_volume]
        kinds += [clips] if source.type.unit == HU else []
        kinds += [st.sampled_from([CropTo(), CropTo(margin_mm=3.0)])]
        operator = draw(st.one_of(kinds))
        others = (BODY,) if isinstance(operator, CropTo) else ()
        volumes.append(work(operator, source, *others, step=f"s{number}"))
    read = {value.id for volume in volumes for value in volume.inputs}
    return graph_to(*[volume for volume in volumes if volume.id not in read])


exact = st.sampled_from([rule for rule in RULES if rule.tolerance == 0])


@settings(max_examples=150, deadline=None)
@given(graph=graphs(), rule=exact)
def test_an_exact_rule_changes_no_bit_of_any_volume(graph: Graph, rule: Any) -> None:
    before, after = computed(graph), computed(rewrite(graph, (rule,)))
    np.testing.assert_array_equal(before.labels.view(np.float32), after.labels.view(np.float32))
    np.testing.assert_array_equal(before.affine, after.affine)


@settings(max_examples=150, deadline=None)
@given(graph=graphs())
def test_all_rules_together_keep_within_their_tolerance_and_settle(graph: Graph) -> None:
    once = rewrite(graph)
    before, after = numbers(graph), numbers(once)
    largest = max(1.0, float(np.abs(before).max()), *_magnitudes(graph))
    assert np.abs(before - after).max() <= sum(rule.tolerance for rule in RULES) * largest
    assert rewrite(once) == once
    assert rewrite(graph) == once


def _magnitudes(graph: Graph) -> list[float]:
    """The largest number that a step may have had to round: voxels and offsets, scaled as far as can be."""
    scale = 1.0
    for node in graph.nodes:
        match node.operator:
            case Normalise(scale=factor):
                scale *= max(abs(factor), 1.0)
            case Pointwise(steps=steps):
                scale *= float(np.prod([max(abs(s.numbers[1]), 1.0) for s in steps if s.op == "normalise"]))
    return [2000.0 * scale]


def test_a_crop_of_a_resampled_volume_resamples_only_what_it_keeps() -> None:
    resampled = work(Resample(spacing_mm=(1.0, 0.5, 0.5)), SCAN)
    graph = graph_to(work(CropTo(margin_mm=1.0), resampled, BODY))
    after = rewrite(graph, (CROP_FIRST,))
    assert ops(after) == ["bits", "resample_cropped", "threshold"]
    np.testing.assert_array_equal(computed(graph).labels, computed(after).labels)
    both = graph_to(work(CropTo(), resampled, BODY), resampled)
    assert "resample_cropped" not in ops(rewrite(both, (CROP_FIRST,)))


def test_a_crop_of_a_normalised_volume_keeps_the_statistics_of_the_whole() -> None:
    graph = graph_to(work(CropTo(), work(NormaliseVolume(by="quantiles"), SCAN), BODY))
    after = rewrite(graph, (CROP_FIRST,))
    assert ops(after) == ["bits", "crop_to", "normalise_with", "statistics", "threshold"]
    np.testing.assert_array_equal(computed(graph).labels, computed(after).labels)


def test_statistics_are_computed_once_for_all_normalisations_of_a_volume() -> None:
    kinds = [NormaliseVolume(by="quantiles", low=low) for low in (0.01, 0.05)]
    graph = graph_to(*(work(kind, SCAN) for kind in [*kinds, NormaliseVolume(by="min_max")]))
    after = rewrite(graph, (SHARE_STATISTICS,))
    assert ops(after) == ["bits", "normalise_with", "normalise_with", "normalise_with", "statistics"]
    (statistics,) = (n.operator for n in after.nodes if isinstance(n.operator, Statistics))
    assert statistics == Statistics(quantities=("max", "min"), quantiles=(0.01, 0.05, 0.95))
    np.testing.assert_array_equal(computed(graph).labels, computed(after).labels)
    alone = graph_to(work(kinds[0], SCAN))
    assert rewrite(alone, (SHARE_STATISTICS,)) == alone


def test_equal_resamplings_on_both_sides_of_a_scaling_are_one() -> None:
    resample, scaled = Resample(spacing_mm=(1.0, 1.0, 1.0)), Normalise(offset=-1000, scale=0.001)
    graph = graph_to(work(resample, work(scaled, SCAN)), work(resample, SCAN))
    after = rewrite(graph, (MERGE_RESAMPLINGS,))
    assert ops(after) == ["bits", "normalise", "resample"]
    assert np.abs(numbers(graph) - numbers(after)).max() < MERGE_RESAMPLINGS.tolerance * 2000
    alone = graph_to(work(resample, work(scaled, SCAN)))
    assert rewrite(alone, (MERGE_RESAMPLINGS,)) == alone


def test_a_clip_is_never_moved_across_a_resampling() -> None:
    resample, clip = Resample(spacing_mm=(1.0, 1.0, 1.0)), Clip(min_hu=-50, max_hu=50)
    graph = graph_to(work(resample, work(clip, SCAN)), work(resample, SCAN))
    assert rewrite(graph, (MERGE_RESAMPLINGS,)) == graph
    clipped = NormaliseVolume(by="min_max", clip=True)
    graph = graph_to(work(resample, work(clipped, SCAN)), work(resample, SCAN))
    assert rewrite(graph, (MERGE_RESAMPLINGS,)) == graph


def test_clips_on_end_are_one_clip_to_what_they_have_in_common() -> None:
    steps = [("clip", (-100.0, 300.0)), ("clip", (-200.0, 150.0)), ("normalise", (0.0, 2.0))]
    pointwise = Pointwise(steps=tuple(PointwiseStep(op=op, numbers=n) for op, n in steps))  # type: ignore[arg-type]
    after = rewrite(graph_to(work(pointwise, SCAN)), (MERGE_CLIPS,))
    (merged,) = (n.operator for n in after.nodes if isinstance(n.operator, Pointwise))
    assert [step.numbers for step in merged.steps] == [(-100.0, 150.0), (0.0, 2.0)]
    apart = Pointwise(steps=(pointwise.steps[0], PointwiseStep(op="clip", numbers=(400.0, 500.0))))
    assert rewrite(graph_to(work(apart, SCAN)), (MERGE_CLIPS,)) == graph_to(work(apart, SCAN))


LOGITS = work(Network(), work(Resample(spacing_mm=(4.0, 3.0, 3.0)), SCAN, step="coarse"))
BEYOND = work(Network(), work(CropTo(), SCAN, BODY, step="part"))


@pytest.mark.parametrize("logits", [LOGITS, BEYOND], ids=["everywhere", "beyond the map too"])
def test_argmax_of_upsampled_class_values_never_holds_them_all(logits: Work) -> None:
    graph = graph_to(work(Argmax(), work(Upsample(), logits, SCAN)))
    after = rewrite(graph, (ARGMAX_UPSAMPLED,))
    assert "upsample" not in ops(after)
    assert "restore_probability" in ops(after)
    before, now = computed(graph), computed(after)
    assert before.labels.any()
    np.testing.assert_array_equal(before.labels, now.labels)
    np.testing.assert_array_equal(before.affine, now.affine)
    assert before.segments == now.segments


def test_upsampled_class_values_that_others_read_stay() -> None:
    upsampled = work(Upsample(), LOGITS, SCAN)
    first = graph_to(work(Argmax(), upsampled))
    second = graph_to(work(Argmax(), work(Softmax(), upsampled), step="other"))
    both = replace(first, nodes=tuple(reachable([*first.nodes, *second.nodes])))
    both = replace(both, outputs=first.outputs + second.outputs)
    assert rewrite(both, (ARGMAX_UPSAMPLED,)) == both


def test_a_threshold_below_zero_is_left_as_it_is() -> None:
    graph = graph_to(work(Argmax(threshold=-1.0), work(Upsample(), LOGITS, SCAN)))
    assert rewrite(graph, (ARGMAX_UPSAMPLED,)) == graph


SMOOTH_BODY = """
pipeline: smooth-body
version: "1.0"
title: Body with a smooth outline
description: For tests; research use only.
research_use_only: true
input: {modality: CT}
steps:
  images: {op: decode, of: series}
  stacked: {op: stack, of: images}
  coarse: {op: resample, of: stacked, spacing_mm: [4.0, 4.0, 4.0]}
  tissue: {op: threshold, of: coarse, min_hu: -250, segment: Body}
  shares: {op: one_hot, of: tissue}
  fine: {op: upsample, of: [shares, stacked]}
  body: {op: argmax, of: fine}
outputs:
  body:
    description: Body
    mask: body
    segments:
      - {name: Body, category: ["1", SCT, T], type: ["2", SCT, T], color: [177, 122, 101]}
"""


def test_a_pipeline_may_write_upsampling_and_argmax_apart(tmp_path: Path) -> None:
    (tmp_path / "smooth-body.yaml").write_text(SMOOTH_BODY)
    pipeline = read_pipeline(tmp_path / "smooth-body.yaml")
    plan = lower(rewrite(graph_of(pipeline, tuple(check(pipeline)))), pipeline)
    words = [node.operator for node in plan.nodes]
    assert words == [
        "decode",
        "stack",
        "resample",
        "threshold",
        "one_hot",
        "restore_probability",
        "encode_seg",
    ]
    assert plan.node(plan.outputs[0].mask).step == "fine+body"

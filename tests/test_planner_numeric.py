"""A chain of numeric steps gives as one ONNX graph what its kernels give one by one."""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.engines.onnxruntime import OnnxSession
from models.errors import KernelError
from models.operators.argmax import Argmax
from models.operators.base import KernelContext, NetworkSession, Operator
from models.operators.crop import CropTo
from models.operators.intensity import Clip, Normalise
from models.operators.normalise_volume import NormaliseVolume, NormaliseWith
from models.operators.one_hot import OneHot
from models.operators.pointwise import Pointwise, PointwiseStep
from models.operators.resample import Resample
from models.operators.softmax import Softmax
from models.operators.statistics import Statistics
from models.pipeline import check
from models.pipeline_file import pipeline_path, read_pipeline
from models.values import HU, ONE, Kind, LabelMap, ProbabilityMap, Value, ValueType, Volume
from object_store.digest import Digest
from object_store.opening import open_store
from planner.execute import operator_of
from planner.graph import graph_of
from planner.lower import lower
from planner.numeric.build import TOLERANCES, build, can_build
from planner.numeric.chains import Chain, numeric_chains
from planner.numeric.choose import fused_or_none, measure
from planner.numeric.fused import run_fused
from planner.numeric.record import Fused
from planner.plan import Node, Plan
from planner.rewrite import rewrite
from tests.imaging_cases import NoResources, grid

HU_VOLUME = ValueType(kind=Kind.VOLUME, unit=HU)
CLASSES = ValueType(kind=Kind.PROBABILITY_MAP, segments=("a", "b", "c"))
LABELS = ValueType(kind=Kind.LABEL_MAP, segments=("a", "b", "c"))


@lru_cache(maxsize=256)
def session(graph: bytes) -> OnnxSession:
    return OnnxSession(graph)


class Graphs:
    """Resources with nothing but graphs."""

    def __init__(self, graphs: Mapping[str, bytes]) -> None:
        self._graphs = graphs

    def network(self, graph: str) -> NetworkSession:
        return session(self._graphs[graph])

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        raise KeyError(digest)


def nodes_of(chain: Sequence[Operator]) -> list[Node]:
    """A node for each, `n0` reading `in`; second inputs, where there are any, are `mask` and `numbers`."""
    more: dict[type[Operator], tuple[str, ...]] = {CropTo: ("mask",), NormaliseWith: ("numbers",)}
    return [
        Node(
            id=f"n{number}",
            step="",
            operator=operator.name,
            version=operator.version,
            parameters={},
            inputs=("in" if number == 0 else f"n{number - 1}", *more.get(type(operator), ())),
        )
        for number, operator in enumerate(chain)
    ]


def both_ways(
    chain: Sequence[Operator], first: Value, given: ValueType, **others: Value
) -> tuple[Value, Value]:
    """The result of the kernels, and that of the graph."""
    nodes = nodes_of(chain)
    values: dict[str, Value] = {"in": first, **others}
    for node, operator in zip(nodes, chain, strict=True):
        inputs = [values[source] for source in node.inputs]
        values[node.id] = operator.apply(inputs, KernelContext(resources=NoResources()))
    fused = Fused(nodes=tuple(n.id for n in nodes), graph="g", tolerance=0, numpy_s=0, onnx_s=0)
    context = KernelContext(resources=Graphs({"g": build(chain, given)}))
    by_id = dict(zip(fused.nodes, chain, strict=True))
    result = run_fused(fused, nodes, {"in": first, **others}, context, lambda node: by_id[node.id])
    return values[nodes[-1].id], result


def assert_alike(ours: Any, theirs: Any, tolerance: float) -> None:
    assert type(ours) is type(theirs)
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    assert ours.notes == theirs.notes
    assert ours.source is theirs.source
    if isinstance(ours, LabelMap):
        assert ours.segments == theirs.segments
        assert theirs.labels.dtype == np.uint8
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        return
    one, other = (v.voxels if isinstance(v, Volume) else v.values for v in (ours, theirs))
    if isinstance(ours, Volume):
        assert ours.unit == theirs.unit
    else:
        assert ours.segments == theirs.segments
    assert one.shape == other.shape
    assert other.dtype == np.float32
    assert np.abs(one - other).max() <= tolerance


def scan(shape: tuple[int, int, int], seed: int, flat: bool = False) -> Volume:
    voxels = np.random.default_rng(seed).normal(0, 300, shape).astype(np.float32)
    return Volume(np.full_like(voxels, 7) if flat else voxels, grid((2.0, 0.8, 1.1)), HU, notes=("n",))


whole = st.integers(-500, 500).map(float)
clips = st.tuples(whole, st.integers(1, 500)).map(lambda t: Clip(min_hu=t[0], max_hu=t[0] + t[1]))
normalises = st.builds(Normalise, offset=whole, scale=st.sampled_from([0.001, 0.5, -1.0]))
pointwise = st.just(
    Pointwise(
        steps=(
            PointwiseStep(op="clip", numbers=(-200.0, 250.0)),
            PointwiseStep(op="normalise", numbers=(-100.0, 0.01)),
        )
    )
)
spacings = st.sampled_from([0.0, 0.7, 1.0, 3.1])
resamples = st.one_of(
    st.tuples(spacings, spacings, spacings)
    .filter(any)
    .flatmap(lambda s: st.builds(Resample, spacing_mm=st.just(s), finer=st.sampled_from(["yes", "no"]))),
    st.just(Resample(in_plane=(9, 4))),
    st.just(Resample(spacing_mm=(1.0, 0.0, 0.0), in_plane=(5, 12))),
)
crops = st.builds(CropTo, margin_mm=st.sampled_from([0.0, 2.5]))
ranges = st.builds(NormaliseVolume, by=st.just("min_max"), clip=st.booleans())


@st.composite
def chains(draw: st.DrawFn) -> list[Operator]:
    chain: list[Operator] = []
    unit = HU
    for _ in range(draw(st.integers(1, 4))):
        kinds: list[st.SearchStrategy[Operator]] = [normalises, resamples, crops, ranges]
        kinds += [clips, pointwise] if unit == HU else []
        chain.append(draw(st.one_of(kinds)))
        if isinstance(chain[-1], Normalise | NormaliseVolume | Pointwise):
            unit = ONE
    return chain


@settings(max_examples=150, deadline=None)
@given(
    chain=chains(),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 11), st.integers(1, 10)),
    seed=st.integers(0, 9),
    flat=st.booleans(),
)
def test_a_graph_is_within_its_tolerance_of_the_kernels(
    chain: list[Operator], shape: tuple[int, int, int], seed: int, flat: bool
) -> None:
    volume = scan(shape, seed, flat)
    mask = LabelMap(np.zeros(shape, np.uint8), volume.affine, ("m",))
    mask.labels[: shape[0] // 2 + 1, shape[1] // 2 :, shape[2] // 3 :] = 1
    ours, theirs = both_ways(chain, volume, HU_VOLUME, mask=mask)
    tolerance = sum(TOLERANCES[type(operator)] for operator in chain)
    assert isinstance(ours, Volume)
    largest = max(float(np.abs(volume.voxels).max()), 500.0)
    for operator in chain:  # a chain that scales also scales what was lost before
        largest *= abs(operator.scale) if isinstance(operator, Normalise) else 1
    assert_alike(ours, theirs, tolerance * max(largest, 2.0))


@pytest.mark.parametrize("by", ["min_max", "quantiles", "z_score"])
@pytest.mark.parametrize("flat", [False, True])
def test_statistics_of_another_volume_are_fed_to_the_graph(by: Any, flat: bool) -> None:
    volume = scan((4, 5, 6), 1, flat)
    operator = NormaliseVolume(by=by)
    numbers = operator.statistics().apply([volume], KernelContext(resources=NoResources()))
    assert isinstance(operator.statistics(), Statistics)
    ours, theirs = both_ways([operator.given_statistics()], volume, HU_VOLUME, numbers=numbers)
    assert_alike(ours, theirs, 1e-6)
    assert isinstance(theirs, Volume)
    assert theirs.unit == ONE


@pytest.mark.parametrize("chain", [[Softmax()], [Argmax()], [Softmax(), Argmax()]])
def test_class_values_become_probabilities_and_labels(chain: list[Operator]) -> None:
    values = np.random.default_rng(0).integers(-3, 4, (4, 3, 5, 6)).astype(np.float32)  # with ties
    ours, theirs = both_ways(chain, ProbabilityMap(values, grid(), ("a", "b", "c"), ("n",)), CLASSES)
    assert_alike(ours, theirs, 1e-6)


def test_labels_become_ones_and_zeros_and_labels_again() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, 5, 6)).astype(np.uint8)
    given_map = LabelMap(labels, grid(), ("a", "b", "c"))
    ours, theirs = both_ways([OneHot()], given_map, LABELS)
    assert_alike(ours, theirs, 0)
    _, back = both_ways([OneHot(), Argmax()], given_map, LABELS)
    assert isinstance(back, LabelMap)
    np.testing.assert_array_equal(back.labels, labels)


def test_equal_chains_have_equal_bytes() -> None:
    chain = [Resample(spacing_mm=(0.0, 2.0, 2.0)), Clip(min_hu=-100, max_hu=100)]
    assert build(chain, HU_VOLUME) == build(list(chain), HU_VOLUME)
    assert build(chain[:1], HU_VOLUME) != build(chain, HU_VOLUME)


def test_what_has_no_form_as_a_graph_ends_a_chain() -> None:
    assert not can_build(NormaliseVolume(by="quantiles"), HU_VOLUME)
    assert not can_build(NormaliseVolume(by="z_score"), HU_VOLUME)
    assert not can_build(Argmax(), ValueType(kind=Kind.PROBABILITY_MAP, segments=("one",)))
    assert not can_build(Statistics(quantities=("min",)), HU_VOLUME)
    assert can_build(Argmax(), CLASSES)


def test_nodes_that_are_not_the_fused_ones_are_refused() -> None:
    chain = nodes_of([Clip(min_hu=0, max_hu=1)])
    fused = Fused(nodes=("other",), graph="g", tolerance=0, numpy_s=0, onnx_s=0)
    with pytest.raises(KernelError, match="not those of the fused graph"):
        run_fused(fused, chain, {}, KernelContext(resources=Graphs({})), operator_of)


def plan_of(name: str) -> Plan:
    pipeline = read_pipeline(pipeline_path(name))
    return lower(rewrite(graph_of(pipeline, tuple(check(pipeline)))), pipeline)


def test_the_chain_before_the_bundled_network_is_found_once_for_all_its_variants() -> None:
    plans = [plan_of(name) for name in ("ct-lungs-net", "ct-lungs-net-low-dose", "ct-lungs")]
    found = numeric_chains(plans, operator_of)
    assert [[op.name for op in chain.operators] for chain in found] == [["resample", "pointwise"]]
    assert numeric_chains(plans[::-1], operator_of) == found


def test_a_chain_ends_where_others_read() -> None:
    plan = plan_of("ct-lungs-net")
    (chain,) = numeric_chains([plan], operator_of)
    resampled = chain.nodes[0]
    reader = Node(
        id="other",
        step="",
        operator="clip",
        version=1,
        parameters={"min_hu": 0.0, "max_hu": 1.0},
        inputs=(resampled.id,),
    )
    other = Plan(**{f: getattr(plan, f) for f in plan.__struct_fields__} | {"nodes": (*plan.nodes, reader)})
    names = [[op.name for op in found.operators] for found in numeric_chains([plan, other], operator_of)]
    assert sorted(names) == [["clip"], ["pointwise"], ["resample"]]


class Slow:
    """An engine that is right, and takes as long as it is told; the clock only it moves."""

    def __init__(self, onnx_s: float) -> None:
        self.now, self._onnx_s = 0.0, onnx_s

    def open(self, graph: bytes) -> NetworkSession:
        inner, slow = session(graph), self

        class Session:
            def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
                slow.now += slow._onnx_s
                return inner.run(inputs)

        return Session()


def test_a_measurement_says_how_long_both_take_and_how_far_they_are_apart() -> None:
    slow = Slow(onnx_s=0.25)
    chain = Chain(nodes=(), operators=(Resample(spacing_mm=(1.0, 1.0, 1.0)),), given=HU_VOLUME)
    timed = measure(chain, slow.open, shape=(6, 16, 16), clock=lambda: slow.now)
    assert timed.numpy_s == 0
    assert timed.onnx_s == pytest.approx(0.5)  # on two grids
    assert timed.largest_difference <= chain.tolerance


def test_the_chain_before_the_bundled_network_is_right_to_a_ten_thousandth() -> None:
    (chain,) = numeric_chains([plan_of("ct-lungs-net")], operator_of)
    timed = measure(chain, rounds=1, shape=(6, 200, 200))
    assert timed.largest_difference <= 1e-4  # of values in 0 to 1


def test_a_graph_that_is_faster_and_right_is_put_into_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Resample.apply

    def in_no_hurry(self: Resample, inputs: Sequence[Value], context: KernelContext) -> Value:
        until = time.thread_time() + 0.03
        while time.thread_time() < until:
            pass
        return kernel(self, inputs, context)

    monkeypatch.setattr(Resample, "apply", in_no_hurry)
    store = open_store(tmp_path)
    (chain,) = numeric_chains([plan_of("ct-lungs-net")], operator_of)
    fused = fused_or_none(store, chain)
    assert fused is not None
    assert fused.nodes == tuple(node.id for node in chain.nodes)
    assert fused.onnx_s < fused.numpy_s
    assert store.objects.get(Digest.parse(fused.graph)) == chain.graph()


class Wrong:
    """An engine that takes no time at all."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        return [np.zeros((1, 1, 1), np.float32)]


def test_a_graph_that_is_wrong_is_not_taken_however_fast(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    (chain,) = numeric_chains([plan_of("ct-lungs-net")], operator_of)
    assert fused_or_none(store, chain, lambda graph: Wrong()) is None
    assert not list(store.objects)

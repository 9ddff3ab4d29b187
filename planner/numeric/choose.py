"""Measures a chain both ways on this machine, and keeps its graph if that is the faster way."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from models.operators.base import KernelContext, NetworkSession
from models.operators.crop import CropTo
from models.operators.grids import Shape
from models.operators.normalise_volume import NormaliseWith
from models.values import Kind, LabelMap, Measurement, Measurements, ProbabilityMap, Value, Volume
from object_store.opening import Store
from planner.numeric.chains import Chain
from planner.numeric.fused import framed, unframed
from planner.numeric.record import Fused

SHAPE = (64, 256, 256)
"""Of the volume that chains are measured on."""

SPACINGS_MM = ((2.5, 0.8, 0.8), (1.2, 1.0, 1.0))
"""Its voxels, in turn, as of a CT and of an MR series: which way is faster depends on what a resampling has
to do along each axis, so both count."""

GAIN = 0.8
"""A graph is taken if it needs less than this share of the kernels' time: nearer, it is chance."""

Open = Callable[[bytes], NetworkSession]
Sample: TypeAlias = tuple[Value, Sequence[Sequence[Value]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """CPU seconds of one run on each of the volumes, with one thread, by the kernels and by the graph."""

    numpy_s: float
    onnx_s: float
    largest_difference: float
    """Between the two results, relative to their largest magnitude; of labels: how many differ."""


def fused_or_none(store: Store, chain: Chain, open_graph: Open | None = None) -> Fused | None:
    """The chain if its graph is faster on this machine, and right; the graph is in the store then.

    None too if its result is further from the kernels' than its tolerance says.
    """
    timed = measure(chain, open_graph)
    if timed.onnx_s >= GAIN * timed.numpy_s or timed.largest_difference > chain.tolerance:
        return None
    return Fused(
        nodes=tuple(node.id for node in chain.nodes),
        graph=str(store.objects.put(chain.graph())),
        tolerance=chain.tolerance,
        numpy_s=_rounded(timed.numpy_s),
        onnx_s=_rounded(timed.onnx_s),
    )


def measure(
    chain: Chain,
    open_graph: Open | None = None,
    *,
    shape: Shape = SHAPE,
    rounds: int = 5,
    clock: Callable[[], float] = time.thread_time,
) -> Timed:
    """Run a chain both ways in turn, after one run of each that does not count; the least of each."""
    session = (open_graph or _open)(chain.graph())
    timed = [_timed(chain, session, _sample(chain, shape, spacing), rounds, clock) for spacing in SPACINGS_MM]
    return Timed(
        numpy_s=sum(one.numpy_s for one in timed),
        onnx_s=sum(one.onnx_s for one in timed),
        largest_difference=max(one.largest_difference for one in timed),
    )


def _timed(
    chain: Chain, session: NetworkSession, sample: Sample, rounds: int, clock: Callable[[], float]
) -> Timed:
    first, others = sample
    context = KernelContext(resources=_Nothing())

    def by_kernels() -> Value:
        value = first
        for operator, more in zip(chain.operators, others, strict=True):
            value = operator.apply([value, *more], context)
        return value

    def by_graph() -> Value:
        frame, feeds = framed(chain.operators, first, others)
        return unframed(frame, session.run(feeds)[0])

    difference = _difference(by_kernels(), by_graph())
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, seconds in zip((by_kernels, by_graph), times, strict=True):
            started = clock()
            run()
            seconds.append(clock() - started)
    return Timed(numpy_s=min(times[0]), onnx_s=min(times[1]), largest_difference=difference)


def _rounded(seconds: float) -> float:
    """Three digits: more would be noise in the binding."""
    return float(f"{seconds:.3g}")


def _open(graph: bytes) -> NetworkSession:
    from models.engines.onnxruntime import OnnxSession

    return OnnxSession(graph, threads=1)


def _sample(chain: Chain, shape: Shape, spacing_mm: tuple[float, float, float]) -> Sample:
    """A value of the chain's first input, and further inputs for each node."""
    rng = np.random.default_rng(0)
    affine = np.diag([*spacing_mm, 1.0])[[2, 1, 0, 3]]
    given, segments = chain.given, chain.given.segments
    if given.kind is Kind.LABEL_MAP:
        labels = rng.integers(0, len(segments) + 1, shape, dtype=np.uint8)
        first: Value = LabelMap(labels=labels, affine=affine, segments=segments)
    elif given.kind is Kind.PROBABILITY_MAP:
        values = rng.standard_normal((len(segments) + 1, *shape), dtype=np.float32)
        first = ProbabilityMap(values=values, affine=affine, segments=segments)
    else:
        voxels = 300 * rng.standard_normal(shape, dtype=np.float32) - 300
        first = Volume(voxels=voxels, affine=affine, unit=given.unit)
    middle = np.zeros(shape, np.uint8)
    middle[tuple(slice(side // 4, side - side // 4) for side in shape)] = 1
    others: list[Sequence[Value]] = []
    for operator in chain.operators:
        match operator:
            case CropTo():
                others.append([LabelMap(labels=middle, affine=affine, segments=("mask",))])
            case NormaliseWith():
                names = ("min", "mean", f"q{operator.low!r}", "max", "std", f"q{operator.high!r}")
                numbers = (-1000.0, -300.0, -800.0, 500.0, 300.0, 200.0)
                items = [Measurement("", name, n, given.unit) for name, n in zip(names, numbers, strict=True)]
                others.append([Measurements(tuple(items))])
            case _:
                others.append([])
    return first, others


def _difference(ours: Value, theirs: Value) -> float:
    """See Timed.largest_difference; infinite if the two are not even of one shape, or on one grid."""
    one, other = _voxels(ours), _voxels(theirs)
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if isinstance(ours, LabelMap):
        return float(np.count_nonzero(one != other))
    largest = max(float(np.abs(one).max()), 1e-30)
    return float(np.abs(one - other).max()) / largest


def _voxels(value: Value) -> Any:
    match value:
        case Volume():
            return value.voxels
        case LabelMap():
            return value.labels
        case ProbabilityMap():
            return value.values
    raise TypeError(type(value).__name__)


class _Nothing:
    """Numeric kernels reach for no networks and no parameters."""

    def network(self, graph: str) -> NetworkSession:
        raise KeyError(graph)

    def parameters(self, digest: str) -> Any:
        raise KeyError(digest)

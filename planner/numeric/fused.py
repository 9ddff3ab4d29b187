"""Runs a chain of numeric nodes as one ONNX graph. Imported by workers: knows no onnx, only sessions.

A graph computes voxels; where they lie, in which unit, and what depends on the series' size (the matrix of a
resampling, the limits of a crop) is worked out here and fed to it, so that one graph serves every series.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.argmax import Argmax
from models.operators.base import KernelContext, Operator
from models.operators.crop import CropTo, crop_limits
from models.operators.edges import value_of
from models.operators.grids import Shape, moved_affine
from models.operators.intensity import Clip, Normalise
from models.operators.normalise_volume import NormaliseVolume, NormaliseWith
from models.operators.one_hot import OneHot
from models.operators.pointwise import Pointwise
from models.operators.resample import Resample
from models.operators.softmax import Softmax
from models.values import ONE, Affine, LabelMap, Measurements, ProbabilityMap, SourcePlanes, Value, Volume
from planner.numeric.record import Fused
from planner.plan import Node

__all__ = ["Fused", "framed", "run_fused", "unframed"]

Feeds = dict[str, NDArray[Any]]

IMAGE = "x"
"""The graph's input that takes the voxels; the others are called `<number of the node>.<what>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """All of a value but its voxels."""

    kind: type[Volume] | type[LabelMap] | type[ProbabilityMap]
    shape: Shape
    affine: Affine
    unit: str = ""
    segments: tuple[str, ...] = ()
    source: SourcePlanes | None = None
    notes: tuple[str, ...] = ()


def run_fused(
    fused: Fused,
    nodes: Sequence[Node],
    inputs: Mapping[str, Value],
    context: KernelContext,
    operators: Callable[[Node], Operator],
) -> Value:
    """The value of the last of the nodes, which are those of `fused`, in order.

    inputs: by node id, of everything that the nodes read and that is not one of them.
    Raises: KernelError if a value is none that the chain takes, or the graph cannot be run.
    """
    if tuple(node.id for node in nodes) != fused.nodes:
        raise KernelError("these nodes are not those of the fused graph")
    first = inputs[nodes[0].inputs[0]]
    others = [[inputs[source] for source in node.inputs[1:]] for node in nodes]
    frame, feeds = framed([operators(node) for node in nodes], first, others)
    (voxels,) = context.resources.network(fused.graph).run(feeds)
    return unframed(frame, voxels)


def framed(
    chain: Sequence[Operator], first: Value, others: Sequence[Sequence[Value]]
) -> tuple[_Frame, Feeds]:
    """Where a chain's result lies, and what its graph is fed. others: the further inputs of each node."""
    frame, voxels = _frame_of(first)
    feeds: Feeds = {IMAGE: np.ascontiguousarray(voxels)}
    for number, (operator, more) in enumerate(zip(chain, others, strict=True)):
        frame, asked = _step(operator, frame, more)
        feeds.update({f"{number}.{name}": array for name, array in asked})
    return frame, feeds


def unframed(frame: _Frame, voxels: NDArray[Any]) -> Value:
    """The value that a graph's output is."""
    common = {"affine": frame.affine, "source": frame.source, "notes": frame.notes}
    if frame.kind is Volume:
        return Volume(voxels=voxels, unit=frame.unit, **common)  # type: ignore[arg-type]
    if frame.kind is LabelMap:
        return LabelMap(labels=voxels, segments=frame.segments, **common)  # type: ignore[arg-type]
    return ProbabilityMap(values=voxels, segments=frame.segments, **common)  # type: ignore[arg-type]


def _frame_of(value: Value) -> tuple[_Frame, NDArray[Any]]:
    match value:
        case Volume():
            voxels: NDArray[Any] = value.voxels
            frame = _Frame(kind=Volume, shape=value.shape, affine=value.affine, unit=value.unit)
        case LabelMap():
            voxels = value.labels
            frame = _Frame(kind=LabelMap, shape=voxels.shape, affine=value.affine, segments=value.segments)
        case ProbabilityMap():
            voxels = value.values
            shape: Shape = voxels.shape[1:]
            frame = _Frame(kind=ProbabilityMap, shape=shape, affine=value.affine, segments=value.segments)
        case _:
            raise KernelError(f"a {type(value).__name__} has no voxels to compute with")
    return replace(frame, source=value.source, notes=value.notes), voxels


def _step(
    operator: Operator, frame: _Frame, others: Sequence[Value]
) -> tuple[_Frame, Iterator[tuple[str, NDArray[Any]]]]:
    """One node: the frame of its result, and (name, array) of what its part of the graph is fed."""
    match operator:
        case Clip():
            return frame, iter(())
        case Normalise() | NormaliseVolume():
            return replace(frame, unit=ONE), iter(())
        case Pointwise(steps=steps):
            scaled = any(step.op == "normalise" for step in steps)
            return (replace(frame, unit=ONE) if scaled else frame), iter(())
        case NormaliseWith():
            offset, width = operator.offset_and_width(value_of(others[0], Measurements))
            some = np.float32(np.inf) if width == 0 else width  # whatever is divided by it is 0
            return replace(frame, unit=ONE), iter((("offset", np.array(offset)), ("width", np.array(some))))
        case Resample():
            grid = operator.grid_on(frame.affine, frame.shape)
            moved = replace(frame, shape=grid.shape, affine=grid.affine, source=None)
            return moved, iter((("sizes", np.array(grid.shape, np.int64)),))
        case CropTo():
            mask = value_of(others[0], LabelMap)
            starts, stops = crop_limits(mask, frame.affine, frame.shape, operator.margin_mm)
            origin = float(starts[0]), float(starts[1]), float(starts[2])
            shape = stops[0] - starts[0], stops[1] - starts[1], stops[2] - starts[2]
            affine = moved_affine(frame.affine, origin, (1.0, 1.0, 1.0))
            limits = (("starts", np.array(starts, np.int64)), ("stops", np.array(stops, np.int64)))
            return replace(frame, shape=shape, affine=affine, source=None), iter(limits)
        case Softmax():
            return frame, iter(())
        case OneHot():
            return replace(frame, kind=ProbabilityMap), iter(())
        case Argmax():
            return replace(frame, kind=LabelMap), iter(())
    raise KernelError(f"the step {operator.name} has no form as a graph")

"""A pipeline of five folds in a sliding window, compiled: how often tiles are cut and the series is prepared.

The other side is the same five folds as five pipelines, each run by itself.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from loadtest.benches.figures import Findings, at_most, figure
from models.operators.base import KernelContext, NetworkSession, Operator
from models.operators.tiles import corners_of
from models.phantom import PhantomSpec, phantom_series
from models.pipeline import Pipeline
from models.pipeline_file import read_pipeline
from models.values import ProbabilityMap, Series, Value
from object_store.opening import Store, open_store
from planner.bind import without_measuring
from planner.compile import compile_pipelines
from planner.execute import operator_of, run_plan
from planner.plan import Node, Plan
from planner.resources import StoreResources

FOLDS = 5
WITHIN = 1e-5
_SPEC = PhantomSpec(seed=3, slices=6, rows=40, columns=48, spacing_mm=(20.0, 9.0, 7.5))
_PATCH, _OVERLAP = (4, 24, 24), 0.5
_LATER = frozenset({"network", "network_ensemble", "ensemble"})
"""What comes after preprocessing; the rest is not computed here."""
_STEPS = """
pipeline: {name}
version: "1"
title: Folds
description: Folds of one network
research_use_only: true
input: {{modality: CT}}
steps:
  images: {{op: decode, of: series}}
  stacked: {{op: stack, of: images}}
  clipped: {{op: clip, of: stacked, min_hu: -1000, max_hu: 400}}
  scaled: {{op: normalise, of: clipped, offset: -1000, scale: 0.0007142857142857143}}
{networks}
  found: {{op: argmax, of: {mean}}}
  mask: {{op: restore, of: [found, stacked]}}
outputs:
  mask:
    description: one
    mask: mask
    segments: [{{name: s, category: ["1", SCT, T], type: ["2", SCT, T]}}]
"""
_NETWORK = (
    "  net{fold}: {{op: network, of: scaled, graph: fold{fold}.onnx, input: x, mode: sliding_window, "
    "patch: [4, 24, 24], overlap: 0.5, batch: 1, activation: softmax, segments: [s]}}"
)


@dataclass(slots=True)
class _Counts:
    """What was computed: tiles handed to networks, each array once, and runs of every operator."""

    tiles: list[NDArray[Any]] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)

    def fed(self, array: NDArray[Any]) -> None:
        if not any(array is tile for tile in self.tiles):  # kept, so that none takes another's place
            self.tiles.append(array)


def measured(folder: Path) -> Findings:
    """Compile and run both sides over one generated series."""
    for fold in range(FOLDS):
        (folder / f"fold{fold}.onnx").write_bytes(_model(fold).SerializeToString())
    series = phantom_series(_SPEC, folder / "series")
    together, apart = _Counts(), _Counts()
    with open_store(folder / "folds") as store:
        ours = _computed(store, _pipeline(folder, range(FOLDS)), series, together)
        theirs = [_computed(store, _pipeline(folder, [n]), series, apart) for n in range(FOLDS)]
    mean = np.mean(theirs, axis=0)
    difference = float(np.abs(ours - mean).max() / np.abs(mean).max())
    return findings(together.runs, apart.runs, len(together.tiles), len(apart.tiles), difference)


def findings(
    ours: Mapping[str, int], theirs: Mapping[str, int], tiles: int, their_tiles: int, difference: float
) -> Findings:
    """Figures and bars. ours, theirs: runs by operator; tiles: that were cut."""
    needed = sum(1 for _ in corners_of((_SPEC.slices, _SPEC.rows, _SPEC.columns), _PATCH, _OVERLAP))
    prepared, their_prepared = (
        {name: count for name, count in runs.items() if name not in _LATER} for runs in (ours, theirs)
    )
    return Findings(
        figures={
            "tiles cut for five folds": figure([tiles], [their_tiles], unit="tiles", better="lower"),
            "runs of preprocessing for five folds": figure(
                [sum(prepared.values())], [sum(their_prepared.values())], unit="runs", better="lower"
            ),
        },
        bars=[
            at_most("times each tile is cut for five folds", tiles / needed, 1, "times"),
            at_most(
                "runs of a preprocessing operator for five folds",
                max(prepared.values()),
                1,
                "runs",
            ),
            at_most("five folds by the mean of five pipelines, outputs apart", difference, WITHIN, ""),
        ],
        notes=[
            f"Counted in a compiled pipeline of {FOLDS} folds in a sliding window over {needed} tiles; "
            f"the other side is {FOLDS} pipelines of one fold. Preprocessing: {', '.join(prepared)}."
        ],
    )


def _computed(store: Store, pipeline: Pipeline, series: Series, counts: _Counts) -> NDArray[np.float32]:
    """The probabilities that the pipeline's network, or the mean of its networks, gives."""
    (compiled,) = compile_pipelines(store, [pipeline], costing=without_measuring)
    plan: Plan = compiled.plan
    (mean,) = (node.id for node in plan.nodes if node.step in ("mean", *_names(range(FOLDS))))

    def operator(node: Node) -> Operator:
        counts.runs[node.operator] += 1
        return operator_of(node)

    context = KernelContext(resources=_Resources(StoreResources(store.objects.root), counts), series=series)
    value: Value = run_plan(plan, series, context, [mean], operator)[mean]
    assert isinstance(value, ProbabilityMap)
    return value.values


@dataclass(frozen=True, slots=True)
class _Resources:
    """The store's, with what networks are fed counted."""

    of: StoreResources
    counts: _Counts

    def network(self, graph: str) -> NetworkSession:
        return _Counted(self.of.network(graph), self.counts)

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        return self.of.parameters(digest)


@dataclass(frozen=True, slots=True)
class _Counted:
    of: NetworkSession
    counts: _Counts

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        for array in inputs.values():
            self.counts.fed(array)
        return self.of.run(inputs)


def _pipeline(folder: Path, folds: Sequence[int]) -> Pipeline:
    name = "folds" if len(folds) > 1 else f"fold-{folds[0]}"
    networks = [_NETWORK.format(fold=fold) for fold in folds]
    if len(folds) > 1:
        networks.append(f"  mean: {{op: ensemble, of: [{', '.join(_names(folds))}]}}")
    mean = "mean" if len(folds) > 1 else f"net{folds[0]}"
    path = folder / f"{name}.yaml"
    path.write_text(_STEPS.format(name=name, networks="\n".join(networks), mean=mean), encoding="utf-8")
    return read_pipeline(path)


def _names(folds: Sequence[int]) -> list[str]:
    return [f"net{fold}" for fold in folds]


def _model(seed: int) -> onnx.ModelProto:
    """Two convolutions of a volume: x float32[n, 1, ...] -> y float32[n, 2, ...]."""
    random = np.random.default_rng(seed)
    arrays = {
        "first": random.standard_normal((8, 1, 3, 3, 3)).astype(np.float32),
        "last": random.standard_normal((2, 8, 1, 1, 1)).astype(np.float32),
    }
    free = ["slices", "rows", "columns"]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "first"], ["wide"], kernel_shape=[3, 3, 3], pads=[1] * 6),
            helper.make_node("Relu", ["wide"], ["above"]),
            helper.make_node("Conv", ["above", "last"], ["y"], kernel_shape=[1, 1, 1]),
        ],
        "fold",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, *free])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, *free])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model

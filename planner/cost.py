"""What stages cost on this machine: run once on two phantoms, fitted by a line, remembered in the store.

Time is CPU time of the thread that runs (others may use the machine), the least of a few runs; memory is the
peak of one run beyond its inputs.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from models.operators.base import JobContext, KernelContext
from models.phantom import PhantomSpec, phantom_series
from models.values import Value
from object_store.opening import Store
from planner.binding import CostModel, Stage
from planner.canonical import canonical_json
from planner.execute import OperatorFrom, operator_of, run_stage
from planner.machine import machine_id
from planner.memory import peak_bytes_of, value_bytes
from planner.names import costs_name
from planner.plan import SOURCE, Node, Plan
from planner.resources import StoreResources
from planner.stages import UNMEASURED

SMALL = PhantomSpec(seed=1, slices=10, rows=512, columns=512, spacing_mm=(2.5, 0.8, 0.8))
LARGE = PhantomSpec(seed=1, slices=40, rows=512, columns=512, spacing_mm=(2.5, 0.8, 0.8))
"""As CT images nearly always are, because some work is done per image and some per mm. 40 of them (42 MB as
float32) are as many as it takes for the C library to ask the kernel for every array anew, as it does for
whole series: on arrays half as large, stages that only move memory looked ten times faster than they are."""

_ENOUGH_S = 0.1
"""Once a stage has been timed for so long, it is not run again."""

Measured = Callable[[str], None]
"""Called with a stage's name when it has been measured, for progress."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One stage on one phantom."""

    voxels: int
    seconds: float
    peak_bytes: int
    output_bytes: int


def measured_costs(
    store: Store, operators: OperatorFrom = operator_of, measured: Measured = lambda name: None
) -> Callable[[Mapping[str, Plan], tuple[Stage, ...]], tuple[Stage, ...]]:
    """A function that gives stages their costs: those remembered for this machine, else measured now."""

    def costed(plans: Mapping[str, Plan], stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        known = remembered_costs(store)
        new = {stage.id for stage in stages} - known.keys()
        if new:
            nodes = {node.id: node for plan in plans.values() for node in plan.nodes}
            known |= measure(store.objects.root, stages, nodes, new, operators, measured)
            _remember(store, known)
        return tuple(msgspec.structs.replace(stage, cost=known[stage.id]) for stage in stages)

    return costed


def remembered_costs(store: Store) -> dict[str, CostModel]:
    """Costs measured before on this machine model, by stage id."""
    digest = store.names.get(costs_name(machine_id()))
    return msgspec.json.decode(store.objects.get(digest), type=dict[str, CostModel]) if digest else {}


def measure(
    store: Path,
    stages: Sequence[Stage],
    nodes: Mapping[str, Node],
    wanted: set[str],
    operators: OperatorFrom = operator_of,
    measured: Measured = lambda name: None,
) -> dict[str, CostModel]:
    """Costs of the stages whose ids are `wanted`; one that fails on the phantom keeps the default cost."""
    resources = StoreResources(store, threads=1)
    needed = _with_ancestors(stages, wanted)
    samples: dict[str, list[Sample]] = {stage_id: [] for stage_id in wanted}
    with tempfile.TemporaryDirectory(prefix="lightbox-cost-") as folder:
        for spec in (SMALL, LARGE):
            series = phantom_series(spec, Path(folder) / f"{spec.slices}")
            context = KernelContext(resources=resources, job=_JOB, series=series)
            values: dict[str, Value] = {SOURCE: series}
            for place, stage in enumerate(needed):
                runs = _runs(stage, nodes, values, context, operators)
                if runs is not None:
                    _one_stage(runs, stage, spec, values, samples)
                    if spec is LARGE and stage.id in wanted:
                        measured(stage.name)
                _forget(values, needed[place + 1 :])
    return {stage_id: fitted(points) for stage_id, points in samples.items()}


def fitted(samples: Sequence[Sample]) -> CostModel:
    """The line through the samples; with fewer than two, the default cost. Memory is that of the larger."""
    if len(samples) < 2:
        return UNMEASURED
    small, large = samples
    slope = max((large.seconds - small.seconds) / (large.voxels - small.voxels), 0.0)
    return CostModel(
        fixed_s=_rounded(max(large.seconds - slope * large.voxels, 0.0)),
        per_voxel_s=_rounded(slope),
        peak_bytes_per_voxel=_rounded(large.peak_bytes / large.voxels),
        output_bytes_per_voxel=_rounded(large.output_bytes / large.voxels),
        measured=True,
    )


_Run = Callable[[], dict[str, Value]]


def _runs(
    stage: Stage,
    nodes: Mapping[str, Node],
    values: Mapping[str, Value],
    context: KernelContext,
    operators: OperatorFrom,
) -> _Run | None:
    """The stage, ready to run; None if an input could not be computed."""
    if any(node not in values for node in stage.takes):
        return None
    inputs = {node: (values[node],) for node in stage.takes}
    program = [nodes[node] for node in stage.nodes]
    return lambda: run_stage(program, inputs, stage.gives, context, operators)


def _one_stage(
    run: _Run, stage: Stage, spec: PhantomSpec, values: dict[str, Value], samples: dict[str, list[Sample]]
) -> None:
    try:
        if stage.id not in samples:
            results = run()
        else:
            # The run on the small phantom also imports and sets up: neither a cost nor fit to be watched,
            # for watching allocations makes imports a hundred times slower.
            results, peak_bytes = (run(), 0) if spec is SMALL else peak_bytes_of(run)
            seconds = _least_seconds(run)
            output_bytes = sum(value_bytes(value) for value in results.values())
            voxels = spec.slices * spec.rows * spec.columns
            samples[stage.id].append(Sample(voxels, seconds, peak_bytes, output_bytes))
    except Exception:  # kernels are foreign code: one that cannot take the phantom is not measured
        return
    values.update(results)


def _least_seconds(run: _Run) -> float:
    times: list[float] = []
    while len(times) < 3 and sum(times) < _ENOUGH_S:
        started = time.thread_time()
        run()
        times.append(time.thread_time() - started)
    return min(times)


def _with_ancestors(stages: Sequence[Stage], wanted: set[str]) -> list[Stage]:
    """The wanted stages and all that must run before them, in execution order."""
    needed: list[Stage] = []
    taken: set[str] = set()
    for stage in reversed(stages):
        if stage.id in wanted or not taken.isdisjoint(stage.gives):
            needed.append(stage)
            taken.update(stage.takes)
    return needed[::-1]


def _forget(values: dict[str, Value], later: Sequence[Stage]) -> None:
    read = {node for stage in later for node in stage.takes}
    for node in [node for node in values if node not in read]:
        del values[node]


def _remember(store: Store, costs: Mapping[str, CostModel]) -> None:
    digest = store.objects.put(canonical_json(msgspec.to_builtins(dict(costs))))
    store.names.set(costs_name(machine_id()), digest)


def _rounded(value: float) -> float:
    """Three digits: more would be noise in the binding."""
    return float(f"{value:.3g}")


_JOB = JobContext(
    tenant="local",
    plan="sha256:" + "0" * 64,
    binding="sha256:" + "0" * 64,
    pipeline="cost",
    pipeline_version="1",
    created=datetime(2024, 1, 1, tzinfo=UTC),
    device="cpu",
    software_version="0",
)

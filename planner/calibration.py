"""Measuring stages again on this machine, and holding what is predicted against what is."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from models.phantom import PhantomSpec
from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import bind
from planner.binding import Binding, CostModel, Stage
from planner.cost import PHANTOMS, QUICK, THOROUGH, cost_keys, measure, remember, remembered_costs
from planner.errors import UnknownPipeline
from planner.execute import OperatorFrom, operator_of
from planner.live import compiled_plan, current_binding
from planner.measuring.fit import Sample
from planner.measuring.walk import Thoroughness, processes_for, samples_on
from planner.plan import Node, stored_plan
from planner.turn import turn

UNLIKE = PhantomSpec(seed=5, slices=96, rows=512, columns=512, spacing_mm=(2.0, 0.7, 0.7))
"""A series that no cost was measured on: another patient, other spacing, twice as many images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A stage and its cost before and after."""

    stage: str
    name: str
    pipelines: tuple[str, ...]
    before: CostModel
    after: CostModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured, and the binding that it went into. seconds: how long that took."""

    binding: str
    seconds: float
    stages: tuple[Calibrated, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A stage's cost on a series as predicted, and as it was."""

    stage: str
    name: str
    predicted_s: float
    real_s: float
    predicted_peak_bytes: int
    real_peak_bytes: int


def calibrate(
    store: Store,
    pipelines: Iterable[str] = (),
    *,
    thoroughness: Thoroughness = THOROUGH,
    phantoms: Sequence[PhantomSpec] = PHANTOMS,
    operators: OperatorFrom = operator_of,
    chosen: Callable[[int], None] = lambda stages: None,
    measured: Callable[[str], None] = lambda name: None,
    binder: Callable[[Store], object] = bind,
) -> Calibration:
    """Measure the stages of these compiled pipelines (default: all that are bound) and bind anew.

    chosen: told how many stages are measured, before the first; measured: each one's name. A stage that fails
    on the phantoms keeps what was known of it. Raises: UnknownPipeline, StoreError.
    """
    started = time.monotonic()
    binding, stages = _stages(store, pipelines)
    nodes = _nodes(store, binding)
    keys = cost_keys(binding, nodes)
    first = {keys[stage.id]: stage.id for stage in reversed(stages)}
    chosen(len(first))
    found = measure(
        store.objects.root,
        binding,
        nodes,
        set(first.values()),
        operators,
        measured,
        phantoms=phantoms,
        thoroughness=thoroughness,
    )
    new = {key: found[stage] for key, stage in first.items() if found[stage].measured}
    with turn(store):
        remember(store, remembered_costs(store) | new)
        binder(store)
    current = current_binding(store)
    assert current is not None  # there was one to calibrate
    rows = tuple(
        Calibrated(
            stage=stage.id,
            name=stage.name,
            pipelines=tuple(sorted({binding.plans[plan] for plan in stage.plans})),
            before=stage.cost,
            after=new.get(keys[stage.id], stage.cost),
        )
        for stage in stages
    )
    return Calibration(binding=str(current[0]), seconds=time.monotonic() - started, stages=rows)


def predictions(
    store: Store,
    pipelines: Iterable[str] = (),
    *,
    spec: PhantomSpec = UNLIKE,
    thoroughness: Thoroughness = QUICK,
    operators: OperatorFrom = operator_of,
    measured: Callable[[str], None] = lambda name: None,
) -> tuple[Predicted, ...]:
    """Run the stages of these pipelines on a series of `spec` and hold the binding's costs against that.

    Of stages with equal cost keys one is run; those that fail on the series are left out.
    Raises: UnknownPipeline, StoreError.
    """
    binding, stages = _stages(store, pipelines)
    nodes = _nodes(store, binding)
    keys = cost_keys(binding, nodes)
    first = {keys[stage.id]: stage.id for stage in reversed(stages)}
    with processes_for(binding, nodes, operators) as processes:
        samples = samples_on(
            spec,
            binding,
            nodes,
            set(first.values()),
            store=store.objects.root,
            processes=processes,
            thoroughness=thoroughness.without_networks,
            operators=operators,
            measured=measured,
        )
    return tuple(_predicted(stage, samples[stage.id]) for stage in stages if stage.id in samples)


def _predicted(stage: Stage, sample: Sample) -> Predicted:
    return Predicted(
        stage=stage.id,
        name=stage.name,
        predicted_s=stage.cost.seconds(sample.voxels, sample.litres),
        real_s=sample.seconds,
        predicted_peak_bytes=stage.cost.peak_bytes(sample.voxels, sample.litres),
        real_peak_bytes=sample.peak_bytes,
    )


def _stages(store: Store, pipelines: Iterable[str]) -> tuple[Binding, tuple[Stage, ...]]:
    current = current_binding(store)
    names = tuple(pipelines)
    plans = {str(compiled_plan(store, name)[0]) for name in names}
    if current is None:
        raise UnknownPipeline(names[0] if names else "any")
    binding = current[1]
    return binding, tuple(stage for stage in binding.stages if not names or plans & set(stage.plans))


def _nodes(store: Store, binding: Binding) -> dict[str, Node]:
    plans = (stored_plan(store, Digest.parse(digest)) for digest in binding.plans)
    return {node.id: node for plan in plans for node in plan.nodes}

"""What compiling found out, as values: stages, who shares them, what they cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from object_store.opening import Store
from planner.binding import Binding, Stage
from planner.errors import UnknownPipeline
from planner.live import compiled_plan, current_binding
from planner.networks.adopt import why_opaque
from planner.networks.compared import is_opened
from planner.networks.joint import members_of, networks_of
from planner.plan import Plan

REFERENCE_VOXELS = 128 * 512 * 512
"""The series that estimates are for, unless another size is asked for: 128 images of 512 x 512."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedStage:
    """One stage of a pipeline; seconds and bytes are estimates for the voxels asked for."""

    id: str
    name: str
    steps: tuple[tuple[str, str], ...]
    """(step, operator) of each node, in execution order."""
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    granularity: str
    pool: str
    per_job: bool
    shared_with: tuple[str, ...]
    """The other pipelines that this stage is computed for, sorted."""
    seconds: float
    peak_bytes: int
    output_bytes: int
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueStep:
    """A step that runs a network which the planner cannot see into."""

    step: str
    graph: str
    variant: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnjudgedStep:
    """A step whose network could run faster, were it not for plans that have not judged that yet."""

    step: str
    graph: str
    plans: tuple[tuple[str, str], ...]
    """(digest, pipeline) of each of them; it may be the explained plan itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A pipeline as it is computed on this machine."""

    pipeline: str
    version: str
    title: str
    plan: str
    binding: str
    voxels: int
    outputs: tuple[str, ...]
    stages: tuple[ExplainedStage, ...]
    opaque: tuple[OpaqueStep, ...]
    """In execution order; such a network runs as its author wrote it, and shares nothing."""
    unjudged: tuple[UnjudgedStep, ...] = ()
    """In execution order."""

    @property
    def seconds(self) -> float:
        """All stages one after the other."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def shared_seconds(self) -> float:
        """The part of it that others need as well."""
        return sum(stage.seconds for stage in self.stages if stage.shared_with)


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Several pipelines on one series: each stage once, against every pipeline alone."""

    seconds: float
    seconds_alone: float
    stages: int
    stages_alone: int


def explain(
    store: Store, pipelines: Iterable[str], voxels: int = REFERENCE_VOXELS
) -> tuple[Explanation, ...]:
    """How each of these pipelines is computed. Raises: UnknownPipeline for one that was never compiled."""
    current = current_binding(store)
    explained = []
    for name in pipelines:
        digest, plan = compiled_plan(store, name)
        if current is None or str(digest) not in current[1].plans:
            raise UnknownPipeline(name)
        binding_digest, binding = current
        stages = (_explained(stage, plan, binding, voxels) for stage in binding.stages_of(str(digest)))
        explained.append(
            Explanation(
                pipeline=name,
                version=plan.version,
                title=plan.title,
                plan=str(digest),
                binding=str(binding_digest),
                voxels=voxels,
                outputs=tuple(output.name for output in plan.outputs),
                stages=tuple(stages),
                opaque=tuple(_opaque(store, plan)),
                unjudged=tuple(_unjudged(plan, binding)),
            )
        )
    return tuple(explained)


def _opaque(store: Store, plan: Plan) -> Iterator[OpaqueStep]:
    for node in plan.nodes:
        for graph, variant in members_of(node):
            if variant or not is_opened(store, graph):
                why = why_opaque(store, graph) or "it was compiled before networks were opened"
                yield OpaqueStep(step=node.step, graph=graph, variant=variant, why=why)


def _unjudged(plan: Plan, binding: Binding) -> Iterator[UnjudgedStep]:
    for node in plan.nodes:
        for graph in networks_of(node):
            if (bound := binding.networks.get(graph)) and bound.unjudged:
                plans = tuple((digest, binding.plans[digest]) for digest in bound.unjudged)
                yield UnjudgedStep(step=node.step, graph=graph, plans=plans)


def together(explanations: Iterable[Explanation]) -> Together:
    """What these pipelines cost when they run on one series together, and when each runs alone."""
    alone = [stage for explanation in explanations for stage in explanation.stages]
    once = {stage.id: stage for stage in alone}
    return Together(
        seconds=sum(stage.seconds for stage in once.values()),
        seconds_alone=sum(stage.seconds for stage in alone),
        stages=len(once),
        stages_alone=len(alone),
    )


def _explained(stage: Stage, plan: Plan, binding: Binding, voxels: int) -> ExplainedStage:
    nodes = [plan.node(node) for node in stage.nodes]
    sharers = {binding.plans[digest] for digest in stage.plans} - {plan.pipeline}
    return ExplainedStage(
        id=stage.id,
        name=stage.name,
        steps=tuple((node.step, node.operator) for node in nodes),
        takes=stage.takes,
        gives=stage.gives,
        granularity=stage.granularity,
        pool=stage.pool,
        per_job=stage.per_job,
        shared_with=tuple(sorted(sharers)),
        seconds=stage.cost.seconds(voxels),
        peak_bytes=stage.cost.peak_bytes(voxels),
        output_bytes=int(stage.cost.output_bytes_per_voxel * voxels),
        measured=stage.cost.measured,
    )

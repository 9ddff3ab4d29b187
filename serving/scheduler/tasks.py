"""From a binding to what the scheduler schedules: the stages of a plan, sized for one series."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.operators.base import JobContext
from models.values import Series
from planner.binding import IMAGES_PER_PART, Binding, Stage
from planner.plan import SOURCE, Node, Plan
from serving.scheduler.events import Job, Priority, StageTask


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """A job for the scheduler with everything that running it needs; the scheduler sees only `job`."""

    job: Job
    plan: Plan
    stages: dict[str, Stage]
    """By stage id."""
    series: Series
    context: JobContext

    def nodes_of(self, stage: str) -> tuple[Node, ...]:
        """The operators of a stage, in execution order."""
        return tuple(self.plan.node(node) for node in self.stages[stage].nodes)

    def part_of_series(self, task: StageTask, part: int) -> Series | None:
        """The images one run works on; None if the stage does not read the series."""
        if SOURCE not in self.stages[task.stage].takes:
            return None
        if task.parts == 1:
            return self.series
        start = part * IMAGES_PER_PART
        return Series(self.series.images[start : start + IMAGES_PER_PART], offset=start)


def make_order(
    *,
    job_id: str,
    plan: Plan,
    plan_digest: str,
    binding: Binding,
    series: Series,
    voxels: int,
    input_digest: str,
    context: JobContext,
    priority: Priority,
    submitted_s: float,
    litres: float | None = None,
) -> JobOrder:
    """Size the plan's stages for this series. voxels: all pixels of all its images; litres: what they fill.

    Raises: KeyError if the plan is not in the binding.
    """
    stages = binding.stages_of(plan_digest)
    if not stages:
        raise KeyError(plan_digest)
    tasks = tuple(_task(stage, len(series.images)) for stage in stages)
    return JobOrder(
        job=Job(
            id=job_id,
            tenant=context.tenant,
            plan=plan_digest,
            # A tenant's values are its own: equal pixels of two tenants are two inputs. And another binding
            # may round otherwise: a value made under it must not get into a job that began under this one.
            input_digest=f"{context.tenant}/{context.binding}/{input_digest}",
            priority=priority,
            submitted_s=submitted_s,
            tasks=tasks,
            outputs=_outputs(plan),
            peak_bytes=_peak_bytes(stages, voxels, litres),
        ),
        plan=plan,
        stages={stage.id: stage for stage in stages},
        series=series,
        context=context,
    )


def _outputs(plan: Plan) -> tuple[str, ...]:
    nodes = [node for o in plan.outputs for node in (o.segmentation, o.measurements) if node is not None]
    return tuple(dict.fromkeys(nodes))


def _task(stage: Stage, images: int) -> StageTask:
    return StageTask(
        stage=stage.id,
        name=stage.name,
        pool=stage.pool,
        takes=tuple(node for node in stage.takes if node != SOURCE),
        gives=stage.gives,
        per_job=stage.per_job,
        parts=-(-images // IMAGES_PER_PART) if stage.granularity == "image" else 1,
    )


def _peak_bytes(stages: Sequence[Stage], voxels: int, litres: float | None) -> int:
    """What a job is planned to need: all that its stages leave behind, and the greediest of them on top."""
    kept = sum(stage.cost.output_bytes_per_voxel * voxels for stage in stages)
    return int(kept) + max(stage.cost.peak_bytes(voxels, litres) for stage in stages)

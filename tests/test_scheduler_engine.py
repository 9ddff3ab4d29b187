"""The engine around the core: values are handed on and dropped, ends are told once, losses are retried."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from models.operators.base import JobContext
from models.values import ImageReference, Measurement, Measurements, Series
from planner.binding import IMAGES_PER_PART, Binding, CostModel, Stage
from planner.plan import SOURCE, Node, Plan, PlannedOutput
from serving.observe.metrics import Metrics
from serving.pools.messages import Answer, RunDone, RunRaised, RunRefusedInput, RunStage
from serving.pools.shared_values import write_value
from serving.scheduler.engine import Engine, JobOutcome
from serving.scheduler.events import Priority, RunId
from serving.scheduler.state import Limits
from serving.scheduler.tasks import JobOrder, make_order

FREE = CostModel(fixed_s=0, per_voxel_s=0, peak_bytes_per_voxel=0, output_bytes_per_voxel=0, measured=True)


def node(name: str, *inputs: str) -> Node:
    return Node(id=name, step=name, operator=name, version=1, parameters={}, inputs=inputs)


def stage(name: str, *takes: str, granularity: str = "volume", plans: tuple[str, ...]) -> Stage:
    return Stage(
        id=f"stage {name}",
        name=name,
        nodes=(name,),
        takes=takes,
        gives=(name,),
        granularity=granularity,  # type: ignore[arg-type]
        pool="cpu",
        per_job=False,
        plans=plans,
        cost=FREE,
    )


def plan(name: str) -> Plan:
    output = PlannedOutput(
        name=name, description=name, mask=name, segmentation=name, measurements=None, segments=()
    )
    return Plan(
        pipeline=name,
        version="1",
        title=name,
        research_use_only=True,
        contract={},
        nodes=(node("decode", SOURCE), node("stack", "decode"), node(name, "stack")),
        outputs=(output,),
        golden=(),
        blobs=(),
    )


BINDING = Binding(
    machine={},
    plans={"lungs": "lungs", "bones": "bones"},
    stages=(
        stage("decode", SOURCE, granularity="image", plans=("bones", "lungs")),
        stage("stack", "decode", plans=("bones", "lungs")),
        stage("lungs", "stack", plans=("lungs",)),
        stage("bones", "stack", plans=("bones",)),
    ),
)


def order(name: str, images: int = IMAGES_PER_PART + 3, binding: str = "binding") -> JobOrder:
    context = JobContext(
        tenant="local",
        plan=name,
        binding=binding,
        pipeline=name,
        pipeline_version="1",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        device="cpu",
        software_version="1",
    )
    return make_order(
        job_id=f"job {name}",
        plan=plan(name),
        plan_digest=name,
        binding=BINDING,
        series=Series(tuple(ImageReference(f"{n}.dcm", str(n), f"1.2.{n:03}") for n in range(images))),
        voxels=1000,
        input_digest="input",
        context=context,
        priority=Priority.ROUTINE,
        submitted_s=0.0,
    )


class FakePool:
    """Answers every run on the loop with what `behave` says; counts how often each stage ran."""

    def __init__(self, folder: Path, behave: Callable[[RunStage, int], str]) -> None:
        self.engine: Engine
        self.ran: list[str] = []
        self._folder, self._behave = folder, behave

    def submit(self, run: RunStage) -> None:
        name = run.nodes[0].operator
        self.ran.append(name)
        attempt = self.ran.count(name)
        asyncio.get_running_loop().call_soon(self._answer, run, self._behave(run, attempt))

    def kill(self, run: RunId) -> None:
        raise AssertionError("nothing here takes long")

    def _answer(self, run: RunStage, what: str) -> None:
        answer: Answer
        match what:
            case "lose":
                self.engine.lost(run.run, "the process died", alone=True)
                return
            case "refuse":
                answer = RunRefusedInput(run.run, "gantry-tilt", "tilted")
            case "raise":
                answer = RunRaised(run.run, "ValueError in stage", "places")
            case _:
                seen = len(run.series.images) if run.series else sum(len(parts) for _, parts in run.inputs)
                value = Measurements(
                    (Measurement(run.gives[0], "seen", float(seen), "1"),), (f"note {what}",)
                )
                path = self._folder / f"{run.run}"
                answer = RunDone(run.run, ((run.gives[0], write_value(value, path)),), 0.5, 0.25)
        self.engine.answered(answer)


def ends_of(
    folder: Path, behave: Callable[[RunStage, int], str], orders: Sequence[JobOrder] = ()
) -> tuple[list[JobOutcome], list[str], FakePool]:
    """Run two jobs together; by default the lungs and the bones of one series."""
    pool = FakePool(folder, behave)
    outcomes: list[JobOutcome] = []
    started: list[str] = []

    async def run() -> None:
        async def on_started(job: str) -> None:
            started.append(job)

        async def on_ended(outcome: JobOutcome) -> None:
            assert all(Path(value.path).exists() for _, value in outcome.values)
            outcomes.append(outcome)

        limits = Limits(memory_bytes=1 << 30, keep_bytes=0, retries=1, run_deadline_s=60)
        engine = pool.engine = Engine(limits, Metrics(), on_started, on_ended)
        engine.add_pool("cpu", pool, 2)
        running = asyncio.create_task(engine.run())
        engine.submit(orders or [order("lungs"), order("bones")])
        while len(outcomes) < 2:
            await asyncio.sleep(0)
        await engine.settle()
        assert engine.jobs == ()
        running.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))
    return sorted(outcomes, key=lambda outcome: outcome.order.job.id), started, pool


def test_two_jobs_on_one_series_decode_and_stack_once_and_leave_no_value_behind(tmp_path: Path) -> None:
    (bones, lungs), started, pool = ends_of(tmp_path, lambda run, attempt: "done")
    assert sorted(pool.ran) == ["bones", "decode", "decode", "lungs", "stack"]
    assert sorted(started) == ["job bones", "job lungs"]
    assert [name for name, _ in lungs.values] == ["lungs"]
    assert bones.failed is None
    assert not list(tmp_path.iterdir())


def test_a_job_knows_its_stages_what_they_cost_and_whom_they_ran_for(tmp_path: Path) -> None:
    (bones, lungs), _, _ = ends_of(tmp_path, lambda run, attempt: "done")
    uses = {use.name: use for use in lungs.uses}
    assert (uses["decode"].runs, uses["decode"].seconds, uses["decode"].cpu_seconds) == (2, 1.0, 0.5)
    assert uses["stack"].ran_for == {use.name: use for use in bones.uses}["stack"].ran_for
    assert lungs.notes == ("note done",)


def test_a_lost_run_is_run_again(tmp_path: Path) -> None:
    def lose_first_stack(run: RunStage, attempt: int) -> str:
        return "lose" if run.nodes[0].operator == "stack" and attempt == 1 else "done"

    (bones, lungs), _, pool = ends_of(tmp_path, lose_first_stack)
    assert pool.ran.count("stack") == 2
    assert (bones.failed, lungs.failed) == (None, None)


def test_what_the_shared_stage_refuses_is_refused_for_both_with_its_reason(tmp_path: Path) -> None:
    def refuse(run: RunStage, attempt: int) -> str:
        return "refuse" if run.nodes[0].operator == "stack" else "done"

    outcomes, _, _ = ends_of(tmp_path, refuse)
    assert [outcome.refused for outcome in outcomes] == [("gantry-tilt", "tilted")] * 2
    assert not list(tmp_path.iterdir())


def test_a_stage_that_raises_fails_its_own_job_alone(tmp_path: Path) -> None:
    def raises(run: RunStage, attempt: int) -> str:
        return "raise" if run.nodes[0].operator == "lungs" else "done"

    (bones, lungs), _, _ = ends_of(tmp_path, raises)
    assert lungs.failed == "ValueError in stage"
    assert bones.failed is None
    assert not list(tmp_path.iterdir())


def test_a_run_is_told_the_binding_that_its_job_began_with_also_when_it_is_run_again(tmp_path: Path) -> None:
    told: list[str] = []

    def lose_first_stack(run: RunStage, attempt: int) -> str:
        told.append(run.binding)
        return "lose" if run.nodes[0].operator == "stack" and attempt == 1 else "done"

    ends_of(tmp_path, lose_first_stack, [order("lungs", binding="old"), order("bones", binding="old")])
    assert set(told) == {"old"}


def test_jobs_that_began_under_two_bindings_share_no_value(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    def behave(run: RunStage, attempt: int) -> str:
        told.append((run.nodes[0].operator, run.binding))
        return "done"

    ends_of(tmp_path, behave, [order("lungs", binding="old"), order("bones", binding="new")])
    stacked = sorted(binding for operator, binding in told if operator == "stack")
    assert stacked == ["new", "old"]

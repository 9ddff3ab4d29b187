"""Whatever happens, in whatever order: every job ends once, and at the end nothing is left behind."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.scheduler.decide import decide
from serving.scheduler.events import (
    Action,
    DropValues,
    Event,
    Job,
    JobFailed,
    JobFinished,
    JobRefused,
    JobReleased,
    JobsSubmitted,
    PoolResized,
    Priority,
    RunFailed,
    RunFinished,
    RunLost,
    RunRefused,
    StageTask,
    StartRun,
    ValueKey,
)
from serving.scheduler.state import Limits, State

STAGES = ("decode", "stack", "lungs", "bones", "encode")
GRAPH = {"decode": (), "stack": ("decode",), "lungs": ("stack",), "bones": ("stack",), "encode": ("lungs",)}


@st.composite
def jobs(draw: st.DrawFn, name: str) -> Job:
    goal = draw(st.sampled_from(STAGES))
    parts = draw(st.integers(1, 3))
    needed = [goal]
    for stage in needed:
        needed.extend(GRAPH[stage])
    tasks = tuple(
        StageTask(
            stage=stage,
            name=stage,
            pool="gil" if stage in ("decode", "encode") else "cpu",
            takes=GRAPH[stage],
            gives=(stage,),
            per_job=stage == "encode",
            parts=parts if stage == "decode" else 1,
        )
        for stage in STAGES
        if stage in needed
    )
    return Job(
        id=name,
        tenant="local",
        plan="plan",
        input_digest=f"series of {parts}",
        priority=draw(st.sampled_from(Priority)),
        submitted_s=draw(st.floats(0, 10)),
        tasks=tasks,
        outputs=(goal,),
        peak_bytes=draw(st.integers(1, 80)),
    )


@dataclass
class World:
    """Stands for the shell: knows which values and runs exist, and objects to impossible actions."""

    values: set[ValueKey] = field(default_factory=set)
    running: dict[int, StartRun] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    to_release: list[str] = field(default_factory=list)

    def see(self, actions: tuple[Action, ...], slots: dict[str, int]) -> None:
        for action in actions:
            match action:
                case StartRun():
                    assert action.run not in self.running
                    assert {key for _, keys in action.inputs for key in keys} <= self.values
                    self.running[action.run] = action
                    for pool, most in slots.items():
                        assert sum(run.task.pool == pool for run in self.running.values()) <= most
                case DropValues(keys):
                    needed = {k for r in self.running.values() for _, keys in r.inputs for k in keys}
                    assert not needed & set(keys)
                    self.values -= set(keys)
                case JobFinished(job, outputs):
                    assert {key for _, key in outputs} <= self.values
                    self.ended.append(job)
                    self.to_release.append(job)
                case JobFailed(job) | JobRefused(job):
                    self.ended.append(job)
                case _:
                    pass


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_job_ends_exactly_once_and_nothing_is_left(data: st.DataObject) -> None:
    slots = {"cpu": data.draw(st.integers(1, 3)), "gil": data.draw(st.integers(1, 2))}
    state = State(Limits(memory_bytes=100, keep_bytes=0, retries=1, run_deadline_s=1e9))
    world = World()
    submitted = [data.draw(jobs(f"job {n}")) for n in range(data.draw(st.integers(1, 6)))]

    def tell(event: Event) -> None:
        world.see(decide(state, event, 0.0), slots)

    for pool, count in slots.items():
        tell(PoolResized(pool, count))
    waiting = list(submitted)
    while waiting or world.running or world.to_release:
        choices = ["submit"] * bool(waiting) + ["run"] * bool(world.running)
        choices += ["release"] * bool(world.to_release)
        match data.draw(st.sampled_from(choices)):
            case "submit":
                tell(JobsSubmitted((waiting.pop(),)))
            case "release":
                tell(JobReleased(world.to_release.pop(0)))
            case _:
                run_id = data.draw(st.sampled_from(sorted(world.running)))
                run = world.running.pop(run_id)
                match data.draw(st.sampled_from(("done",) * 6 + ("lost", "failed", "refused"))):
                    case "done":
                        world.values |= {ValueKey(n, run.key.scope, run.key.part) for n in run.key.gives}
                        tell(RunFinished(run.run, tuple((n, 7) for n in run.key.gives)))
                    case "lost":
                        tell(RunLost(run.run, "died"))
                    case "failed":
                        tell(RunFailed(run.run, "raised"))
                    case _:
                        tell(RunRefused(run.run, "reason", "refused"))

    assert sorted(world.ended) == sorted(job.id for job in submitted)
    assert not state.jobs
    assert not state.runs
    assert not state.by_key
    assert not state.readers
    assert not state.present
    assert not world.values
    assert state.reserved_bytes == 0
    assert not any(state.awaited.values())

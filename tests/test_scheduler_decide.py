"""What the scheduler core promises: equal work once, order, memory, retries. No clock, no process."""

from serving.scheduler.decide import decide
from serving.scheduler.events import (
    Action,
    DropValues,
    Job,
    JobFailed,
    JobFinished,
    JobRefused,
    JobReleased,
    JobsSubmitted,
    JobStarted,
    KillRun,
    PoolResized,
    Priority,
    RunFailed,
    RunFinished,
    RunLost,
    RunRefused,
    StageTask,
    StartRun,
    Tick,
    ValueKey,
)
from serving.scheduler.state import Limits, State


def limits(**changes: float) -> Limits:
    values = {"memory_bytes": 1000, "keep_bytes": 0, "retries": 2, "run_deadline_s": 10.0} | changes
    return Limits(**values)  # type: ignore[arg-type]


def task(name: str, *takes: str, pool: str = "cpu", per_job: bool = False, parts: int = 1) -> StageTask:
    return StageTask(
        stage=name,
        name=name,
        pool=pool,
        takes=takes,
        gives=(f"{name}.out",),
        per_job=per_job,
        parts=parts,
    )


def job(
    name: str,
    *tasks: StageTask,
    priority: Priority = Priority.ROUTINE,
    submitted_s: float = 0.0,
    peak_bytes: int = 10,
    digest: str = "series",
) -> Job:
    return Job(
        id=name,
        tenant="local",
        plan="plan",
        input_digest=digest,
        priority=priority,
        submitted_s=submitted_s,
        tasks=tasks,
        outputs=tasks[-1].gives,
        peak_bytes=peak_bytes,
    )


def started(actions: tuple[Action, ...]) -> list[StartRun]:
    return [action for action in actions if isinstance(action, StartRun)]


def finish(state: State, start: StartRun, size: int = 1, now_s: float = 0.0) -> tuple[Action, ...]:
    return decide(state, RunFinished(start.run, tuple((node, size) for node in start.key.gives)), now_s)


def state_with(slots: int = 4, **changes: float) -> State:
    state = State(limits(**changes))
    decide(state, PoolResized("cpu", slots), 0.0)
    return state


STACK = task("stack")
LUNGS = task("lungs", "stack.out")
BONES = task("bones", "stack.out")


def test_a_stage_two_jobs_need_is_run_once_and_both_get_its_value() -> None:
    state = state_with()
    actions = decide(state, JobsSubmitted((job("a", STACK, LUNGS), job("b", STACK, BONES))), 0.0)
    assert [s.task.name for s in started(actions)] == ["stack"]
    following = started(finish(state, started(actions)[0]))
    assert sorted(s.task.name for s in following) == ["bones", "lungs"]
    assert {keys[0] for s in following for _, keys in s.inputs} == {ValueKey("stack.out", "series", 0)}


def test_the_same_stage_on_another_series_is_another_run() -> None:
    state = state_with()
    jobs = (job("a", STACK, LUNGS), job("b", STACK, LUNGS, digest="other"))
    assert len(started(decide(state, JobsSubmitted(jobs), 0.0))) == 2


def test_work_of_one_job_alone_is_never_joined() -> None:
    encode = task("encode", per_job=True)
    state = state_with()
    actions = decide(state, JobsSubmitted((job("a", encode), job("b", encode))), 0.0)
    assert [s.key.scope for s in started(actions)] == ["a", "b"]


def test_a_job_ends_when_its_outputs_exist_and_its_values_go_when_they_were_read() -> None:
    state = state_with()
    (first,) = started(decide(state, JobsSubmitted((job("a", STACK, LUNGS),)), 0.0))
    (second,) = started(finish(state, first))
    actions = finish(state, second)
    output = ValueKey("lungs.out", "series", 0)
    assert JobFinished("a", (("lungs.out", output),)) in actions
    assert DropValues((ValueKey("stack.out", "series", 0),)) in actions
    assert decide(state, JobReleased("a"), 0.0) == (DropValues((output,)),)
    assert not state.runs
    assert not state.jobs
    assert state.reserved_bytes == 0


def test_kept_values_save_the_next_job_its_run() -> None:
    state = state_with(keep_bytes=100)
    (first,) = started(decide(state, JobsSubmitted((job("a", STACK, LUNGS),)), 0.0))
    finish(state, started(finish(state, first))[0])
    decide(state, JobReleased("a"), 0.0)
    actions = decide(state, JobsSubmitted((job("b", STACK, BONES),)), 0.0)
    assert [s.task.name for s in started(actions)] == ["bones"]


def test_kept_values_never_exceed_their_limit() -> None:
    state = state_with(keep_bytes=5)
    for digest in ("x", "y", "z"):
        (run,) = started(decide(state, JobsSubmitted((job(digest, STACK, digest=digest),)), 0.0))
        finish(state, run, size=3)
        decide(state, JobReleased(digest), 0.0)
    assert state.idle_bytes == 3
    assert list(state.idle) == [ValueKey("stack.out", "z", 0)]


def test_a_cut_stage_runs_in_parts_and_its_consumer_gathers_them_in_order() -> None:
    decode = task("decode", parts=3)
    state = state_with()
    parts = started(decide(state, JobsSubmitted((job("a", decode, task("stack", "decode.out")),)), 0.0))
    assert [s.key.part for s in parts] == [0, 1, 2]
    assert not started(finish(state, parts[2]))
    assert not started(finish(state, parts[0]))
    (stack,) = started(finish(state, parts[1]))
    assert [key.part for key in stack.inputs[0][1]] == [0, 1, 2]


def test_a_run_cut_like_its_producer_reads_only_its_own_part() -> None:
    tasks = (task("decode", parts=2), task("net", "decode.out", parts=2), task("join", "net.out"))
    state = state_with()
    first, _ = started(decide(state, JobsSubmitted((job("a", *tasks),)), 0.0))
    (net,) = started(finish(state, first))
    assert net.inputs == (("decode.out", (ValueKey("decode.out", "series", 0),)),)


def test_urgent_work_goes_before_routine_work_that_waited_longer() -> None:
    state = state_with(slots=1)
    (running,) = started(decide(state, JobsSubmitted((job("r0", STACK, digest="0"),)), 0.0))
    decide(state, JobsSubmitted((job("r1", STACK, digest="1", submitted_s=1),)), 1.0)
    decide(state, JobsSubmitted((job("s", STACK, digest="2", submitted_s=2, priority=Priority.STAT),)), 2.0)
    assert [s.job for s in started(finish(state, running))] == ["s"]


def test_routine_work_that_urgent_work_joins_becomes_urgent() -> None:
    state = state_with(slots=1)
    (running,) = started(decide(state, JobsSubmitted((job("r0", STACK, digest="0"),)), 0.0))
    decide(state, JobsSubmitted((job("r1", STACK, digest="1"), job("r2", STACK, digest="2"))), 1.0)
    decide(state, JobsSubmitted((job("s", STACK, LUNGS, digest="2", priority=Priority.STAT),)), 2.0)
    assert started(finish(state, running))[0].key.scope == "2"


def test_a_job_waits_until_its_planned_memory_fits() -> None:
    state = state_with(memory_bytes=100)
    jobs = tuple(job(name, STACK, digest=name, peak_bytes=60) for name in ("a", "b"))
    actions = decide(state, JobsSubmitted(jobs), 0.0)
    assert [a.job for a in actions if isinstance(a, JobStarted)] == ["a"]
    assert JobStarted("b") in finish(state, started(actions)[0])


def test_a_job_larger_than_all_memory_runs_alone_rather_than_never() -> None:
    state = state_with(memory_bytes=100)
    assert JobStarted("a") in decide(state, JobsSubmitted((job("a", STACK, peak_bytes=500),)), 0.0)


def test_an_input_that_a_shared_stage_refuses_refuses_every_job_that_waits_for_it() -> None:
    state = state_with()
    actions = decide(state, JobsSubmitted((job("a", STACK, LUNGS), job("b", STACK, BONES))), 0.0)
    refused = decide(state, RunRefused(started(actions)[0].run, "gantry-tilt", "tilted"), 0.0)
    assert refused == (
        JobRefused("a", "gantry-tilt", "tilted"),
        JobRefused("b", "gantry-tilt", "tilted"),
    )
    assert not state.runs
    assert not state.jobs
    assert not state.readers
    assert state.reserved_bytes == 0


def test_a_failed_stage_fails_only_the_jobs_that_need_it() -> None:
    state = state_with()
    (stack,) = started(decide(state, JobsSubmitted((job("a", STACK, LUNGS), job("b", STACK, BONES))), 0.0))
    lungs = next(s for s in started(finish(state, stack)) if s.task.name == "lungs")
    assert decide(state, RunFailed(lungs.run, "ValueError"), 0.0) == (JobFailed("a", "ValueError"),)
    assert set(state.jobs) == {"b"}


def test_a_lost_run_is_tried_again_up_to_its_limit() -> None:
    state = state_with(retries=2)
    (run,) = started(decide(state, JobsSubmitted((job("a", STACK),)), 0.0))
    for _ in range(2):
        (again,) = started(decide(state, RunLost(run.run, "the process died"), 0.0))
        assert again.run == run.run
    (failed,) = decide(state, RunLost(run.run, "the process died"), 0.0)
    assert failed == JobFailed("a", "the process died; tried 3 times")


def test_a_run_that_goes_down_with_others_is_not_to_blame() -> None:
    state = state_with(retries=1)
    (run,) = started(decide(state, JobsSubmitted((job("a", STACK),)), 0.0))
    for _ in range(4):
        (again,) = started(decide(state, RunLost(run.run, "the process died", alone=False), 0.0))
        assert again.run == run.run
    assert started(decide(state, RunLost(run.run, "the process died", alone=True), 0.0))
    (failed,) = decide(state, RunLost(run.run, "the process died", alone=True), 0.0)
    assert isinstance(failed, JobFailed)


def test_a_run_past_its_deadline_is_killed_once() -> None:
    state = state_with(run_deadline_s=10.0)
    (run,) = started(decide(state, JobsSubmitted((job("a", STACK),)), 0.0))
    assert decide(state, Tick(), 9.0) == ()
    assert decide(state, Tick(), 10.5) == (KillRun(run.run),)
    assert decide(state, Tick(), 11.5) == ()


def test_a_job_that_is_let_go_takes_its_waiting_runs_with_it_and_leaves_the_shared_ones() -> None:
    state = state_with(slots=1)
    (stack,) = started(decide(state, JobsSubmitted((job("a", STACK, LUNGS), job("b", STACK, BONES))), 0.0))
    decide(state, JobReleased("a"), 0.0)
    assert [s.task.name for s in started(finish(state, stack))] == ["bones"]


def test_no_more_runs_start_than_a_pool_has_slots() -> None:
    state = state_with(slots=2)
    jobs = tuple(job(str(n), STACK, digest=str(n)) for n in range(5))
    assert len(started(decide(state, JobsSubmitted(jobs), 0.0))) == 2


def test_a_submitted_job_is_not_started_again() -> None:
    state = state_with()
    decide(state, JobsSubmitted((job("a", STACK),)), 0.0)
    assert decide(state, JobsSubmitted((job("a", STACK),)), 1.0) == ()

"""When a job starts, and which stage runs that creates."""

from serving.scheduler import values
from serving.scheduler.events import Action, Job, JobStarted, RunId, RunKey, StageTask, ValueKey
from serving.scheduler.state import JobState, Run, RunState, State


def enqueue(state: State, job: Job) -> None:
    """Take a job in; it starts when its memory fits. Submitting it twice changes nothing."""
    if job.id not in state.jobs:
        state.jobs[job.id] = JobState(job, state.next_order)
        state.next_order += 1


def start_jobs(state: State, actions: list[Action]) -> bool:
    """Start waiting jobs, best first, while their planned peak fits. None overtakes one that waits.

    Returns: whether any started.
    """
    before = len(actions)
    waiting = sorted(
        (entry for entry in state.jobs.values() if not entry.started),
        key=lambda entry: (entry.job.priority, entry.order),
    )
    for entry in waiting:
        fits = state.reserved_bytes + entry.job.peak_bytes <= state.limits.memory_bytes
        if not fits and state.reserved_bytes > 0:
            break
        start(state, entry)
        actions.append(JobStarted(entry.job.id))
    return len(actions) > before


def start(state: State, entry: JobState) -> None:
    """Reserve the job's memory and create or join the runs it needs."""
    job = entry.job
    entry.started = True
    state.reserved_bytes += job.peak_bytes
    made_by = {node: task for task in job.tasks for node in task.gives}
    entry.held = tuple((node, key) for node in job.outputs for key in _keys(job, made_by[node], node))
    values.read_by(state, (key for _, key in entry.held))
    entry.missing = {key for _, key in entry.held if key not in state.present}
    for place, task in _needed(state, job, made_by):
        for part in range(task.parts):
            gives = (ValueKey(node, _scope(job, task), part) for node in task.gives)
            if any(key not in state.present for key in gives):
                _create_or_join(state, job, task, part, place, made_by)


def _needed(state: State, job: Job, made_by: dict[str, StageTask]) -> list[tuple[int, StageTask]]:
    """Tasks whose values are wanted and do not all exist, in execution order, each with its place."""
    wanted = set(job.outputs)
    needed = []
    for place in range(len(job.tasks) - 1, -1, -1):
        task = job.tasks[place]
        missing = any(
            key not in state.present
            for node in task.gives
            if node in wanted
            for key in _keys(job, task, node)
        )
        if missing:
            wanted.update(task.takes)
            needed.append((place, task))
    return needed[::-1]


def _create_or_join(
    state: State, job: Job, task: StageTask, part: int, place: int, made_by: dict[str, StageTask]
) -> None:
    key = RunKey(task.stage, task.gives, _scope(job, task), part)
    rank = (int(job.priority), job.submitted_s, place)
    if key in state.by_key:
        run = state.runs[state.by_key[key]]
        run.jobs.add(job.id)
        if rank < run.rank:
            run.rank = rank
            if run.state is RunState.READY:
                state.pool(task.pool).push(run)
        return
    inputs = tuple((node, _parts_read(_keys(job, made_by[node], node), task, part)) for node in task.takes)
    missing = {k for _, keys in inputs for k in keys if k not in state.present}
    run = Run(
        id=RunId(state.next_run),
        key=key,
        task=task,
        inputs=inputs,
        missing=missing,
        jobs={job.id},
        rank=rank,
        state=RunState.WAITING if missing else RunState.READY,
    )
    state.next_run += 1
    state.runs[run.id] = run
    state.by_key[key] = run.id
    values.read_by(state, run.reads())
    for awaited in missing:
        state.awaited.setdefault(awaited, set()).add(run.id)
    if not missing:
        state.pool(task.pool).push(run)


def _parts_read(keys: tuple[ValueKey, ...], task: StageTask, part: int) -> tuple[ValueKey, ...]:
    """A run on one part reads that part of what was cut alike; any other reads all parts."""
    return (keys[part],) if task.parts > 1 and len(keys) == task.parts else keys


def _keys(job: Job, task: StageTask, node: str) -> tuple[ValueKey, ...]:
    return tuple(ValueKey(node, _scope(job, task), part) for part in range(task.parts))


def _scope(job: Job, task: StageTask) -> str:
    return job.id if task.per_job else job.input_digest

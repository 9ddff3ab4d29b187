"""The scheduler's decisions: one event in, the actions it asks for out.

A job starts when its planned peak memory fits beside the started ones. Starting it creates the stage runs
whose values do not exist and that nobody is computing; equal runs are joined. Ready runs wait per pool and
start by class, then age of the job, then place in the plan.
"""

import heapq
from typing import assert_never

from serving.scheduler import admission, values
from serving.scheduler.events import (
    Action,
    Event,
    JobFailed,
    JobFinished,
    JobRefused,
    JobReleased,
    JobsSubmitted,
    KillRun,
    PoolResized,
    RunFailed,
    RunFinished,
    RunId,
    RunLost,
    RunRefused,
    StartRun,
    Tick,
)
from serving.scheduler.state import Rank, Run, RunState, State

INNOCENT_LOSSES = 8
"""How often a run may go down with a process that others ran in before it is given up. A guess."""


def decide(state: State, event: Event, now_s: float) -> tuple[Action, ...]:
    """Change `state` by `event` and say what is to be done. `now_s` is monotonic and never read elsewhere."""
    actions: list[Action] = []
    match event:
        case JobsSubmitted(jobs):
            for job in jobs:
                admission.enqueue(state, job)
        case JobReleased(job_id):
            if job_id in state.jobs:
                leave(state, job_id)
        case RunFinished(run_id, sizes):
            run_finished(state, run_id, dict(sizes), actions)
        case RunRefused(run_id, reason, message):
            ended = end_with_jobs(state, run_id)
            actions.extend(JobRefused(job_id, reason, message) for job_id in ended)
        case RunFailed(run_id, message):
            ended = end_with_jobs(state, run_id)
            actions.extend(JobFailed(job_id, message) for job_id in ended)
        case RunLost(run_id, message, alone):
            run_lost(state, run_id, message, alone, actions)
        case PoolResized(pool, slots):
            state.pool(pool).slots = slots
        case Tick():
            kill_late_runs(state, now_s, actions)
        case _:
            assert_never(event)
    finish_jobs(state, actions)
    while admission.start_jobs(state, actions):
        finish_jobs(state, actions)  # one that found all its values ready makes room at once
    fill_pools(state, now_s, actions)
    values.trim(state, actions)
    return tuple(actions)


def run_finished(state: State, run_id: RunId, sizes: dict[str, int], actions: list[Action]) -> None:
    run = state.runs.pop(run_id, None)
    if run is None:
        return
    forget(state, run)
    for key in run.gives():
        values.appear(state, key, sizes[key.node])
        for waiting_id in state.awaited.pop(key, ()):
            waiting = state.runs[waiting_id]
            waiting.missing.discard(key)
            if not waiting.missing:
                waiting.state = RunState.READY
                state.pool(waiting.task.pool).push(waiting)
        for job_id in run.jobs:
            state.jobs[job_id].missing.discard(key)
    values.unread(state, run.reads())
    values.settle(state, run.gives())  # what nobody reads (a cancelled job's) stays only while there is room


def run_lost(state: State, run_id: RunId, message: str, alone: bool, actions: list[Action]) -> None:
    """Try it again, unless it was to blame too often. What others' runs did to it costs it nothing."""
    run = state.runs.get(run_id)
    if run is None:
        return
    run.losses += 1
    run.strikes += alone or run.killed
    if not run.jobs:
        remove(state, run)
    elif run.strikes > state.limits.retries or run.losses > INNOCENT_LOSSES + state.limits.retries:
        tried = f"{message}; tried {run.losses} times"
        actions.extend(JobFailed(job_id, tried) for job_id in end_with_jobs(state, run_id))
    else:
        state.pool(run.task.pool).running.discard(run.id)
        run.state, run.killed = RunState.READY, False
        state.pool(run.task.pool).push(run)


def end_with_jobs(state: State, run_id: RunId) -> tuple[str, ...]:
    """Take a run that will give nothing out of the state, and every job that waited for it."""
    run = state.runs.get(run_id)
    if run is None:
        return ()
    jobs = tuple(sorted(run.jobs))
    for job_id in jobs:
        leave(state, job_id)
    if run_id in state.runs:  # still counted as running: it is over
        remove(state, run)
    return jobs


def leave(state: State, job_id: str) -> None:
    """A job goes: runs that only it waited for go too, unless they are on a pool already."""
    entry = state.jobs.pop(job_id)
    if entry.started:
        for run in [run for run in state.runs.values() if job_id in run.jobs]:
            run.jobs.discard(job_id)
            if not run.jobs and run.state is not RunState.RUNNING:
                remove(state, run)
        values.unread(state, tuple(key for _, key in entry.held))
        if not entry.finished:
            state.reserved_bytes -= entry.job.peak_bytes


def remove(state: State, run: Run) -> None:
    del state.runs[run.id]
    forget(state, run)
    for key in run.missing:
        state.awaited.get(key, set()).discard(run.id)
    values.unread(state, run.reads())


def forget(state: State, run: Run) -> None:
    state.pool(run.task.pool).running.discard(run.id)
    state.by_key.pop(run.key, None)


def kill_late_runs(state: State, now_s: float, actions: list[Action]) -> None:
    for pool in state.pools.values():
        for run_id in sorted(pool.running):
            run = state.runs[run_id]
            if not run.killed and now_s - run.started_s > state.limits.run_deadline_s:
                run.killed = True
                actions.append(KillRun(run_id))


def finish_jobs(state: State, actions: list[Action]) -> None:
    for entry in state.jobs.values():
        if entry.started and not entry.finished and not entry.missing:
            entry.finished = True
            state.reserved_bytes -= entry.job.peak_bytes
            actions.append(JobFinished(entry.job.id, entry.held))


def fill_pools(state: State, now_s: float, actions: list[Action]) -> None:
    """Give every free slot the best ready run of its pool."""
    for pool in state.pools.values():
        while len(pool.running) < pool.slots:
            run = _next_ready(state, pool.ready)
            if run is None:
                break
            run.state, run.started_s = RunState.RUNNING, now_s
            pool.running.add(run.id)
            best = min(run.jobs, key=lambda job_id: state.jobs[job_id].order)
            actions.append(StartRun(run.id, run.key, run.task, best, run.inputs))


def _next_ready(state: State, ready: list[tuple[Rank, RunId]]) -> Run | None:
    while ready:
        _, run_id = heapq.heappop(ready)
        run = state.runs.get(run_id)
        if run is not None and run.state is RunState.READY:
            return run
    return None

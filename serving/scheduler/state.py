"""Everything the scheduler knows. Only `decide` changes it; no clock, no socket, no thread."""

import heapq
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from serving.scheduler.events import Job, RunId, RunKey, StageTask, ValueKey


class RunState(Enum):
    WAITING = "waiting"
    """Some input does not exist yet."""
    READY = "ready"
    RUNNING = "running"


Rank = tuple[int, float, int]
"""Smaller runs first: (priority class, time its job was submitted, place of the stage in the plan)."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One stage run somebody waits for. It leaves the state when it ends."""

    id: RunId
    key: RunKey
    task: StageTask
    inputs: tuple[tuple[str, tuple[ValueKey, ...]], ...]
    missing: set[ValueKey]
    jobs: set[str]
    rank: Rank
    state: RunState = RunState.WAITING
    losses: int = 0
    """How often its process was gone before it ended."""
    strikes: int = 0
    """How often of these it ran there alone, or was killed for its own deadline."""
    started_s: float = 0.0
    killed: bool = False

    def gives(self) -> tuple[ValueKey, ...]:
        return tuple(ValueKey(node, self.key.scope, self.key.part) for node in self.key.gives)

    def reads(self) -> tuple[ValueKey, ...]:
        return tuple(key for _, parts in self.inputs for key in parts)


@dataclass(slots=True)
class JobState:
    """A job from submission to release. `held`: its outputs; `missing`: those that do not exist yet."""

    job: Job
    order: int
    started: bool = False
    finished: bool = False
    missing: set[ValueKey] = field(default_factory=set)
    held: tuple[tuple[str, ValueKey], ...] = ()


@dataclass(slots=True)
class PoolState:
    """Slots of a pool and the runs that want one, best rank first (stale entries are skipped)."""

    slots: int = 0
    running: set[RunId] = field(default_factory=set)
    ready: list[tuple[Rank, RunId]] = field(default_factory=list)

    def push(self, run: Run) -> None:
        heapq.heappush(self.ready, (run.rank, run.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds the scheduler; every one is configuration."""

    memory_bytes: int
    """Planned peak of all started jobs together. A larger job runs alone."""
    keep_bytes: int
    """Values nobody waits for are kept up to this, newest first: the next job may want them."""
    retries: int
    run_deadline_s: float


@dataclass(slots=True)
class State:
    limits: Limits
    jobs: dict[str, JobState] = field(default_factory=dict)
    pools: dict[str, PoolState] = field(default_factory=dict)
    runs: dict[RunId, Run] = field(default_factory=dict)
    by_key: dict[RunKey, RunId] = field(default_factory=dict)
    awaited: dict[ValueKey, set[RunId]] = field(default_factory=dict)
    """Runs that wait for a value that does not exist yet."""
    present: dict[ValueKey, int] = field(default_factory=dict)
    """Bytes of each value that exists."""
    readers: Counter[ValueKey] = field(default_factory=Counter)
    idle: OrderedDict[ValueKey, None] = field(default_factory=OrderedDict)
    """Values that exist and nobody waits for, oldest first."""
    idle_bytes: int = 0
    reserved_bytes: int = 0
    next_run: int = 1
    next_order: int = 1

    def pool(self, name: str) -> PoolState:
        return self.pools.setdefault(name, PoolState())

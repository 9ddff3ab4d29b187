"""What the scheduler is told, and what it answers. Plain values: a log of them replays an incident."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NewType, TypeAlias

RunId = NewType("RunId", int)


class Priority(IntEnum):
    """Classes of work, most urgent first."""

    STAT = 0
    INTERACTIVE = 1
    ROUTINE = 2
    SPECULATIVE = 3


@dataclass(frozen=True, slots=True)
class ValueKey:
    """One value: which node made it, from which input, and which part of it this is.

    scope is the digest of the input for shared work and the job's id for work of one job alone.
    """

    node: str
    scope: str
    part: int


@dataclass(frozen=True, slots=True)
class RunKey:
    """One stage run. Equal keys are equal work: it is done once, for whoever waits for it."""

    stage: str
    gives: tuple[str, ...]
    scope: str
    part: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTask:
    """A stage as one job needs it. parts > 1: cut between images; consumers gather the parts."""

    stage: str
    name: str
    pool: str
    takes: tuple[str, ...]
    """Nodes of other stages; the series itself is not among them."""
    gives: tuple[str, ...]
    per_job: bool
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A plan applied to an input. Tasks are in execution order; at the end every node of `outputs` exists."""

    id: str
    tenant: str
    plan: str
    input_digest: str
    priority: Priority
    submitted_s: float
    tasks: tuple[StageTask, ...]
    outputs: tuple[str, ...]
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class JobsSubmitted:
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class JobReleased:
    """The outputs of a finished job have been read; its values may go."""

    job: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    run: RunId
    values: tuple[tuple[str, int], ...]
    """(node, bytes it occupies) for each node the run gives."""


@dataclass(frozen=True, slots=True)
class RunRefused:
    """The input cannot be computed on: no retry would help."""

    run: RunId
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The kernel raised: the same would happen again."""

    run: RunId
    message: str


@dataclass(frozen=True, slots=True)
class RunLost:
    """The process that ran it is gone (crash, kill, deadline), or had no room for it.

    alone: nothing else ran there, so it may be to blame.
    """

    run: RunId
    message: str
    alone: bool = True


@dataclass(frozen=True, slots=True)
class PoolResized:
    """A pool has this many slots from now on (0: it is down)."""

    pool: str
    slots: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; deadlines are looked at."""


Event: TypeAlias = (
    JobsSubmitted | JobReleased | RunFinished | RunRefused | RunFailed | RunLost | PoolResized | Tick
)


@dataclass(frozen=True, slots=True)
class StartRun:
    run: RunId
    key: RunKey
    task: StageTask
    job: str
    """The job it is run for; others may be waiting for the same run."""
    inputs: tuple[tuple[str, tuple[ValueKey, ...]], ...]
    """(node, the parts of its value) for each node the stage takes."""


@dataclass(frozen=True, slots=True)
class KillRun:
    """The run is past its deadline: its process must go; RunLost is expected in answer."""

    run: RunId


@dataclass(frozen=True, slots=True)
class DropValues:
    """Nobody will read these again."""

    keys: tuple[ValueKey, ...]


@dataclass(frozen=True, slots=True)
class JobStarted:
    job: str


@dataclass(frozen=True, slots=True)
class JobFinished:
    """Every output exists (all its parts), and stays until JobReleased."""

    job: str
    outputs: tuple[tuple[str, ValueKey], ...]


@dataclass(frozen=True, slots=True)
class JobRefused:
    job: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class JobFailed:
    job: str
    message: str


Action: TypeAlias = StartRun | KillRun | DropValues | JobStarted | JobFinished | JobRefused | JobFailed

"""What passes between the engine and its worker processes."""

from dataclasses import dataclass

from models.operators.base import JobContext
from models.values import Series
from planner.plan import Node
from serving.pools.shared_values import SharedValue
from serving.scheduler.events import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStage:
    """Compute `nodes` in order and write the values of `gives`."""

    run: RunId
    nodes: tuple[Node, ...]
    inputs: tuple[tuple[str, tuple[SharedValue, ...]], ...]
    series: Series | None
    """The part of the series to work on, for a stage that reads it."""
    whole_series: Series | None
    job: JobContext | None
    gives: tuple[str, ...]
    binding: str
    """The digest of the binding that the job began with: which way its networks run."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Import and load what runs to come will need, so that the first job does not wait for it."""

    operators: tuple[str, ...]
    networks: tuple[str, ...]
    binding: str
    """The digest of the binding that new jobs begin with; empty: networks run plainly."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish what runs, then leave."""


@dataclass(frozen=True, slots=True)
class RunDone:
    run: RunId
    values: tuple[tuple[str, SharedValue], ...]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class RunRefusedInput:
    run: RunId
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RunRaised:
    """A kernel raised. `message` is one sentence without patient data; `trace` are our own code's places."""

    run: RunId
    message: str
    trace: str


@dataclass(frozen=True, slots=True)
class RunOutOfMemory:
    """There was no room for it, in the process or in shared memory; there may be later."""

    run: RunId


@dataclass(frozen=True, slots=True)
class WarmedUp:
    seconds: float


Request = RunStage | WarmUp | Stop
Answer = RunDone | RunRefusedInput | RunRaised | RunOutOfMemory | WarmedUp

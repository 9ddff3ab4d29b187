"""What the measuring process is asked to measure, and what it answers."""

from dataclasses import dataclass, field
from pathlib import Path

from models.values import Series
from planner.binding import TileCost
from planner.execute import OperatorFrom
from planner.networks.apart_child import Bounds
from planner.plan import Node
from planner.shared_values import SharedValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One stage on one series. Inputs lie in shared memory, by node id, as a worker is given them."""

    store: Path
    binding: bytes
    """The binding whose engines and precisions are to be used; empty: exact networks."""
    nodes: tuple[Node, ...]
    operators: OperatorFrom
    inputs: dict[str, tuple[SharedValue, ...]]
    parts: tuple[Series, ...]
    """What the runs of the stage read of the series, one after the other; empty if it does not read it."""
    series: Series
    gives: tuple[str, ...]
    folder: Path
    """Where the results are put."""
    repeats: int
    """Runs, if `enough_s` allows; 0: compute the results only."""
    enough_s: float
    """Once the runs took so long together, there are no more."""
    tile_repeats: int
    """How often networks are timed by tiles."""
    all_cores: bool
    """Also time a stage with networks with all cores."""
    bounds: Bounds
    """Of all of it. What is beyond ends the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured. seconds: median, of one thread; peak_bytes: as if all parts ran at once."""

    results: dict[str, tuple[SharedValue, ...]]
    seconds: float = 0.0
    peak_bytes: int = 0
    output_bytes: int = 0
    all_cores: float | None = None
    tiles: TileCost | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The stage could not take the phantom. why: the kind of exception, without its text.

    stopped: in words, what ended it from outside (its bounds, a crash); empty where it refused by itself.
    step: the one that it was at.
    """

    why: str
    stopped: str = ""
    step: str = ""
    results: dict[str, tuple[SharedValue, ...]] = field(default_factory=dict)

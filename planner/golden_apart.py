"""Golden cases are computed in a process of their own, within bounds of memory and time.

A plan may run a stranger's network that never ends, fills the memory or crashes its engine: then that process
ends, and the planner says which step of which pipeline it was (planner.networks.apart). No process is started
for each case: the same one serves them all, and keeps the networks that it has opened.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from models.errors import KernelError
from planner.binding import read_binding
from planner.errors import NotChecked
from planner.networks.apart import NotBorne, apart
from planner.networks.apart_child import Bounds, out_of_memory
from planner.plan import Plan
from planner.resources import BoundResources, StoreResources

T = TypeVar("T")

CASE_BOUNDS = Bounds(seconds=1800.0, bytes=64 << 30)
"""Of one golden case. Guesses: ours take seconds and a gigabyte, and five folds of a large 3D network on one
thread some minutes. `lightbox check` takes others. There are never more bytes than the machine lends."""


def case_apart(
    function: Callable[..., T], plan: Plan, title: str, *arguments: object, bounds: Bounds | None = None
) -> T:
    """function(plan, *arguments), computed apart. It has to get its operators from `planner.told`.

    title: of the case. bounds: default: CASE_BOUNDS, as far as this machine lends the memory.
    Raises: NotChecked, naming case, step and bound, if it had to be stopped; what `function` raises.
    """
    try:
        result: T = apart(_guarded, function, plan, arguments, bounds=bounds or CASE_BOUNDS.here())
        return result
    except NotBorne as stopped:
        step = f"step {stopped.doing}" if stopped.doing else "the run"
        raise NotChecked(plan.pipeline, (f"{title}: {step} was stopped: {stopped}",)) from stopped


def _guarded(function: Callable[..., T], plan: Plan, arguments: tuple[object, ...]) -> T:
    """Raises: MemoryError also where it is an engine that says so."""
    try:
        return function(plan, *arguments)
    except KernelError as error:
        if out_of_memory(error):
            raise MemoryError from error
        raise


@lru_cache(maxsize=1)
def resources_of(store: Path, binding: bytes) -> StoreResources | BoundResources:
    """Networks as this binding runs them; b"": plainly. Kept, so that cases of one plan open them once."""
    resources = StoreResources(store)
    return resources.under(read_binding(binding)) if binding else resources

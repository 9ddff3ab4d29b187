"""Which values exist, who will still read them, and which may go."""

from collections.abc import Iterable

from serving.scheduler.events import Action, DropValues, ValueKey
from serving.scheduler.state import State


def appear(state: State, key: ValueKey, size: int) -> None:
    """A value exists from now on."""
    if key in state.present:  # computed twice, after a crash: the bytes are equal
        return
    state.present[key] = size


def read_by(state: State, keys: Iterable[ValueKey]) -> None:
    """One more reader will come for each of these."""
    for key in keys:
        state.readers[key] += 1
        if key in state.idle:
            del state.idle[key]
            state.idle_bytes -= state.present[key]


def unread(state: State, keys: Iterable[ValueKey]) -> None:
    """One reader fewer for each of these."""
    keys = tuple(keys)
    for key in keys:
        state.readers[key] -= 1
        if state.readers[key] <= 0:
            del state.readers[key]
    settle(state, keys)


def settle(state: State, keys: Iterable[ValueKey]) -> None:
    """Values without a reader become idle."""
    for key in keys:
        if key in state.present and key not in state.readers and key not in state.idle:
            state.idle[key] = None
            state.idle_bytes += state.present[key]


def trim(state: State, actions: list[Action]) -> None:
    """Drop the oldest idle values until those that stay fit the limit."""
    dropped = []
    while state.idle_bytes > state.limits.keep_bytes:
        key, _ = state.idle.popitem(last=False)
        state.idle_bytes -= state.present.pop(key)
        dropped.append(key)
    if dropped:
        actions.append(DropValues(tuple(dropped)))

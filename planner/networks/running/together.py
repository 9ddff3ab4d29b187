"""Runs several networks on one input: every part they share once, values dropped when nobody reads them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.operators.base import NetworkSession
from planner.networks.joint import JointParts


class JointSession:
    """Implements models.operators.network_runs.TogetherSession over parts. Threads may share one."""

    def __init__(self, parts: JointParts, session_of: Callable[[str], NetworkSession]) -> None:
        """session_of: gives the session of a build by digest; asked once for each, now."""
        self._parts = parts
        builds = dict.fromkeys(run.build for run in parts.runs)
        self._sessions = {build: session_of(build) for build in builds}
        self._steps = lru_cache(maxsize=16)(self._planned)

    def run(
        self, inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]
    ) -> Iterator[list[NDArray[np.float32]]]:
        """Outputs of each wanted network (digest), in that order, computed as they are asked for.

        inputs: by the networks' names x0..; float32. Raises: KeyError for a network that is not one of these.
        """
        values: dict[str, NDArray[Any]] = dict(inputs)
        steps, last_use = self._steps(tuple(wanted))
        for number, (runs, network) in enumerate(steps):
            for place in runs:
                run = self._parts.runs[place]
                fed = {f"x{port}": values[value] for port, value in enumerate(run.takes)}
                outputs = self._sessions[run.build].run(fed)
                values.update(zip(run.gives, outputs, strict=True))
                del fed, outputs
                for value in last_use.get((number, place), ()):
                    values.pop(value, None)
            result = [values[value] for value in self._parts.outputs[network]]
            for value in last_use.get((number, -1), ()):
                values.pop(value, None)
            yield result
            del result

    def _planned(
        self, wanted: tuple[str, ...]
    ) -> tuple[list[tuple[list[int], str]], dict[tuple[int, int], list[str]]]:
        """What to run for each wanted network in turn, and after which run which values may go."""
        done: set[int] = set()
        steps: list[tuple[list[int], str]] = []
        last: dict[str, tuple[int, int]] = {}
        for number, network in enumerate(wanted):
            runs = [place for place in self._needed(network) if place not in done]
            done.update(runs)
            steps.append((runs, network))
            for place in runs:
                run = self._parts.runs[place]
                last.update(dict.fromkeys((*run.gives, *run.takes), (number, place)))
            last.update(dict.fromkeys(self._parts.outputs[network], (number, -1)))
        last_use: dict[tuple[int, int], list[str]] = {}
        for value, moment in last.items():
            last_use.setdefault(moment, []).append(value)
        return steps, last_use

    def _needed(self, network: str) -> list[int]:
        """The runs that a network's outputs need, in order."""
        values = set(self._parts.outputs[network])
        needed = []
        for place in reversed(range(len(self._parts.runs))):
            run = self._parts.runs[place]
            if not values.isdisjoint(run.gives):
                values.update(run.takes)
                needed.append(place)
        return needed[::-1]

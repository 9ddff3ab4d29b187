"""A plan's golden cases as ground to try its networks on: what comes before them is computed once.

A case is run in plain fp32 first; its masks are what other ways of running the networks are compared with,
and what was fed to the networks is what they are calibrated with. It is run within bounds, in another process
(planner.golden_apart): a network that has come through it takes about as much on the same input again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.golden import GoldenCase, golden_case
from models.operators.base import KernelContext, NetworkSession, Resources
from models.values import LabelMap, Series, Value
from object_store.opening import Store
from planner.binding import Binding
from planner.check import case_series
from planner.execute import OperatorFrom, operator_of, run_stage
from planner.golden_apart import case_apart, resources_of
from planner.networks.joint import networks_of
from planner.plan import SOURCE, Node, Plan
from planner.told import told

Array = NDArray[Any]

HELD_OUT_SEEDS = 1_000_003
"""Added to a phantom's seed: another patient in the same scan, whom no golden case of ours has."""

KEPT_INPUTS = 64
"""Of what is fed to a network in one case: enough to calibrate with, spread over the case."""
KEPT_BYTES = 256 << 20
"""Likewise, of large inputs."""


@dataclass(frozen=True, slots=True)
class GoldenRun:
    """One case of a plan, ready to be run again from its networks on.

    held_out: not to be calibrated with. reference: masks by output, of plain fp32. fed: for each network
    (digest) what it was fed, by input name, in order; at most KEPT_INPUTS, evenly spread.
    """

    title: str
    held_out: bool
    reference: Mapping[str, LabelMap]
    fed: Mapping[str, Sequence[Mapping[str, Array]]]
    _plan: Plan
    _nodes: tuple[Node, ...]
    _values: Mapping[str, Sequence[Value]]
    _operators: OperatorFrom

    def masks(self, resources: Resources) -> dict[str, LabelMap]:
        """The masks by output, with networks as `resources` give them. Raises: InputRefused; KernelError."""
        return _masks(self._plan, self._nodes, self._values, resources, self._operators)

    def masks_apart(self, store: Path, binding: Binding) -> dict[str, LabelMap]:
        """The masks by output, with networks as `binding` runs them, computed within bounds.

        Raises: NotChecked, naming case, step and bound; InputRefused; KernelError.
        """
        how = (store, binding.to_bytes(), self._operators)
        return case_apart(_masks_under, self._plan, self.title, self._nodes, self._values, *how)


@contextmanager
def golden_runs(store: Store, plan: Plan, operators: OperatorFrom = operator_of) -> Iterator[list[GoldenRun]]:
    """Every golden case of a plan that has networks, and for each phantom another patient, held out.

    operators: must be picklable.
    Raises: InputRefused, KernelError where a case cannot be run; NotChecked, naming case, step and bound,
    where it had to be stopped; StoreError.
    """
    with TemporaryDirectory(prefix="lightbox-golden-") as folder:
        runs = []
        for number, (case, held_out) in enumerate(cases_of(plan)):
            place = Path(folder) / str(number)
            place.mkdir()
            series, _ = case_series(store, case, place)
            how = (store.objects.root, operators)
            runs.append(case_apart(_run, plan, case.title, case.title, held_out, series, *how))
        yield runs


def cases_of(plan: Plan) -> list[tuple[GoldenCase, bool]]:
    """The plan's golden cases, and whether each is held out: of several stored series the last is."""
    golden = [golden_case(fields) for fields in plan.golden]
    stored = [case for case in golden if case.input is not None]
    cases = [(case, len(stored) > 1 and case is stored[-1]) for case in golden]
    for case in golden:
        if case.phantom is not None:
            other = replace(case.phantom, seed=case.phantom.seed + HELD_OUT_SEEDS)
            cases.append((replace(case, phantom=other), True))
    return cases


def _run(
    plan: Plan, title: str, held_out: bool, series: Series, store: Path, operators: OperatorFrom
) -> GoldenRun:
    resources = resources_of(store, b"")
    before, after = _halves(plan)
    inside = {node.id for node in after}
    needed = tuple(dict.fromkeys(s for n in after for s in n.inputs if s not in inside and s != SOURCE))
    context = KernelContext(resources=resources)
    found = run_stage(before, {SOURCE: (series,)}, needed, context, told(operators))
    values: dict[str, Sequence[Value]] = {SOURCE: (series,)}
    values.update({node: (value,) for node, value in found.items()})
    watched = _Watched(resources)
    reference = _masks(plan, after, values, watched, told(operators))
    fed = {graph: kept.inputs for graph, kept in watched.fed.items()}
    return GoldenRun(title, held_out, reference, fed, plan, after, values, operators)


def _halves(plan: Plan) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """The nodes that masks need: those before any network, and the others; each in execution order."""
    needed = {output.mask for output in plan.outputs}
    wanted = []
    for node in reversed(plan.nodes):
        if node.id in needed:
            needed.update(node.inputs)
            wanted.append(node)
    behind: set[str] = set()
    for node in reversed(wanted):
        if networks_of(node) or behind.intersection(node.inputs):
            behind.add(node.id)
    ordered = wanted[::-1]
    return tuple(n for n in ordered if n.id not in behind), tuple(n for n in ordered if n.id in behind)


def _masks_under(
    plan: Plan,
    nodes: Sequence[Node],
    values: Mapping[str, Sequence[Value]],
    store: Path,
    binding: bytes,
    operators: OperatorFrom,
) -> dict[str, LabelMap]:
    return _masks(plan, nodes, values, resources_of(store, binding), told(operators))


def _masks(
    plan: Plan,
    nodes: Sequence[Node],
    values: Mapping[str, Sequence[Value]],
    resources: Resources,
    operators: OperatorFrom,
) -> dict[str, LabelMap]:
    computed = {node.id for node in nodes}
    gives = tuple(dict.fromkeys(o.mask for o in plan.outputs if o.mask in computed))
    found = run_stage(nodes, values, gives, KernelContext(resources=resources), operators)
    masks = {o.name: found[o.mask] for o in plan.outputs if o.mask in computed}
    return {name: mask for name, mask in masks.items() if isinstance(mask, LabelMap)}


@dataclass(slots=True)
class _Kept:
    """Every n-th input; when there are too many, every second of them goes and n doubles."""

    inputs: list[Mapping[str, Array]] = field(default_factory=list)
    every: int = 1
    seen: int = 0

    def add(self, inputs: Mapping[str, Array]) -> None:
        if self.seen % self.every == 0:
            self.inputs.append({name: np.array(value) for name, value in inputs.items()})
            size = sum(value.nbytes for value in inputs.values())
            if len(self.inputs) > max(1, min(KEPT_INPUTS, KEPT_BYTES // size)):
                self.inputs = self.inputs[::2]
                self.every *= 2
        self.seen += 1


class _Watched:
    """Resources that remember what networks were fed."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.fed: dict[str, _Kept] = {}

    def network(self, graph: str) -> NetworkSession:
        kept = self.fed.setdefault(graph, _Kept())
        return _WatchedSession(self._resources.network(graph), kept)

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        return self._resources.parameters(digest)


class _WatchedSession:
    def __init__(self, session: NetworkSession, kept: _Kept) -> None:
        self._session, self._kept = session, kept

    def run(self, inputs: Mapping[str, Array]) -> list[NDArray[np.float32]]:
        self._kept.add(inputs)
        return self._session.run(inputs)

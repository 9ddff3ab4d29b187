"""Find faster ways of running a pipeline's networks, keep those that pass its gate, and bind anew."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import KernelError
from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import bind
from planner.binding import Costing
from planner.canonical import identity
from planner.errors import NotTunable
from planner.execute import OperatorFrom, operator_of
from planner.golden_feeds import GoldenCases, NothingHeldOut, fed_cases
from planner.golden_runs import GoldenRun, golden_runs
from planner.live import compiled_plan, current_binding, live_plans
from planner.machine import gates_id
from planner.networks.bind import networks_in
from planner.networks.families.members import families
from planner.networks.gating import gate_networks, gate_of
from planner.networks.joint import members_of
from planner.networks.keeping import NetworkReader
from planner.networks.precision.candidates import PrecisionPlan, Tried
from planner.networks.precision.gate import Verdict
from planner.networks.precision.search import plan_precision
from planner.networks.prove import verify_networks
from planner.networks.records import Family, Gated, Variant
from planner.networks.structure import Structure
from planner.networks.tuned import Search, TriedWay, Tuned, Way, add_search, restore_search, tuned_family
from planner.networks.tuned_builds import stored_ways
from planner.plan import Node, Plan
from planner.turn import turn
from planner.ways import made_here

BUDGET_S = 300.0
"""Of one pipeline, all its families together."""

SEARCH = "search/3"
"""The version of the search: another looks again for what this one has found."""

Progress = Callable[[str], None]
"""Called with a sentence at each thing found."""


@dataclass(slots=True, kw_only=True)
class TunedNetwork:
    """What was found for one network of the pipeline."""

    network: str
    family: str
    step: str
    tried: tuple[TriedWay, ...]
    notes: tuple[str, ...]
    ways: tuple[Way, ...]
    """All that are known for its family, those found before for other members too."""
    remembered: bool = False
    """Whether the very same was looked for before, and not again."""
    search: Search | None = None
    """As it is recorded; None where another network of the family led to it, or nothing was looked for."""
    hindered: bool = False
    """Whether nothing could be looked for; `notes` says why."""
    judged: list[tuple[Way, Verdict]] = field(default_factory=list)
    """By the pipeline's masks."""
    chosen: Gated | None = None
    """How it runs from now on; None for its own numbers in fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What `tune` did. binding: the one made with it."""

    pipeline: str
    plan: str
    binding: str
    networks: tuple[TunedNetwork, ...]
    took_s: float


def tune(
    store: Store,
    pipeline: str,
    *,
    budget_s: float = BUDGET_S,
    again: bool = False,
    costing: Costing | None = None,
    operators: OperatorFrom = operator_of,
    progress: Progress = lambda sentence: None,
) -> Tuning:
    """Look for faster ways for each family of networks in the plan last compiled of `pipeline`.

    Calibrated with what its golden cases feed the networks; judged there, on cases held out (golden_runs),
    and then by the masks of every live plan that uses the very same network. What is found is recorded for
    this machine model, beside the ways that other members of the family run in, and the binding is made anew.
    Other members run so once their own gate passed: at their promotion. Not within a `turn` of the store.

    again: look anew even where a search for the very same (network, family, golden cases, gate, machine and
    engines), with at least this budget, is remembered.
    Raises: UnknownPipeline, Unreadable, NotTunable; InputRefused, KernelError where a golden case cannot be
    run; StoreError.
    """
    began = time.monotonic()
    digest, plan = compiled_plan(store, pipeline)
    networks = tuple(networks_in({str(digest): plan}))
    if not networks:
        raise NotTunable(pipeline, "it runs no network that could be opened")
    if not plan.golden:
        raise NotTunable(pipeline, "it has no golden case to calibrate with and to judge by")
    verify_networks(store, plan)
    done: dict[str, TunedNetwork] = {}
    with ExitStack() as held:

        @cache
        def runs() -> Sequence[GoldenRun]:
            progress("running the golden cases in fp32")
            return held.enter_context(golden_runs(store, plan, operators))

        found: dict[str, Tuned] = {}
        for number, network in enumerate(networks):
            left = budget_s - (time.monotonic() - began)
            share = max(left / (len(networks) - number), 1.0)
            effort = _Effort(budget_s=budget_s, share_s=share, again=again)
            one = _one(store, plan, network, runs, found, effort, progress)
            if one is not None:
                done[network] = one
        if done and all(one.hindered for one in done.values()):
            raise NotTunable(pipeline, "; ".join(f"step {one.step}: {one.notes[0]}" for one in done.values()))

        def judged(network: str, way: Way, verdict: Verdict) -> None:
            done[network].judged.append((way, verdict))
            progress(
                f"{done[network].step} in {way.engine} {way.precision}: masks "
                f"{'pass' if verdict.passed else 'do not pass'} (least Dice {verdict.least_dice:.4f})"
            )

        gate_networks(store, (digest, plan), tuple(done), runs, judged)
    _gate_others(store, str(digest), tuple(done), operators, progress)
    with turn(store):
        for one in done.values():
            if one.search is not None:
                own = [way for way in one.ways if way.build in one.search.ways]
                restore_search(store, one.family, one.search, own)
        binding = bind(store, (digest,), costing=costing, operators=operators)
    current = current_binding(store)
    for network, one in done.items():
        bound = current[1].networks.get(network) if current else None
        one.chosen = bound.choices[0] if bound else None
        if one.chosen is not None and (unseen := one.chosen.figures.get("unseen")):
            one.notes = (*one.notes, f"not judged, as no golden case shows it: {', '.join(unseen)}")
    return Tuning(
        pipeline=pipeline,
        plan=str(digest),
        binding=str(binding),
        networks=tuple(done.values()),
        took_s=time.monotonic() - began,
    )


def _gate_others(
    store: Store, tuned: str, networks: Sequence[str], operators: OperatorFrom, progress: Progress
) -> None:
    """Let every other live plan with one of these networks judge by its own golden cases.

    What does not pass for all of them is not used.
    """
    others = {digest: plan for digest, plan in live_plans(store).items() if digest != tuned and plan.golden}
    users = networks_in(others)
    for digest, plan in others.items():
        shared = tuple(network for network in networks if digest in users.get(network, ()))
        if shared:
            progress(f"judging by the golden cases of {plan.pipeline}, plan {digest[7:19]}")
            with ExitStack() as held:
                runs = cache(partial(held.enter_context, golden_runs(store, plan, operators)))
                gate_networks(store, (Digest.parse(digest), plan), shared, runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effort:
    """budget_s: of all the pipeline's networks; share_s: of this one."""

    budget_s: float
    share_s: float
    again: bool


def _one(
    store: Store,
    plan: Plan,
    network: str,
    runs: Callable[[], Sequence[GoldenRun]],
    found: dict[str, Tuned],
    effort: _Effort,
    progress: Progress,
) -> TunedNetwork | None:
    """Plan the precision of a network's family, if no other network of the plan has led to it already."""
    reader = NetworkReader(store.objects, store.names)
    variant = reader.variant(network)
    if variant is None:  # an opaque graph
        return None
    node = next(node for node in plan.nodes if network in {graph for graph, _ in members_of(node)})
    tuned_network = partial(TunedNetwork, network=network, family=variant.family, step=node.step)
    alone = bool(variant.own_large)  # the family's filters, rounded, are not its own
    if variant.family in found and not alone:
        return tuned_network(tried=(), notes=(), ways=found[variant.family].ways)
    family = _family(store, reader, variant)
    known = tuned_family(store, family.base) or Tuned(family=family.base, ways=())
    asked = _asked(plan, network, family)
    search = None if effort.again else known.remembered(asked, effort.budget_s)
    if search is not None:
        progress(f"{node.step}: this was looked for before, with the same cases, gate and engines")
        found[variant.family] = known
        return tuned_network(
            tried=search.tried, notes=search.notes, ways=known.ways, remembered=True, search=search
        )
    structure = reader.structure(network)
    try:
        cases = fed_cases(runs(), network, structure, int(node.parameters.get("multiple_of", 1)))
        if cases.note:
            progress(f"{node.step}: {cases.note}")
        planned = _planned(
            cases,
            structure,
            reader.kept_tensors(network),
            labels=labels_of(node),
            lifted=() if alone else family.lifted,
            gate=gate_of(plan),
            budget_s=effort.share_s,
            progress=lambda line: progress(f"{node.step}: {line}"),
        )
    except NothingHeldOut as why:
        progress(f"{node.step}: {why}")
        return tuned_network(tried=(), notes=(str(why),), ways=known.ways, hindered=True)
    ways = stored_ways(store, planned, family, network, alone, reader)
    search = Search(
        asked=asked,
        budget_s=effort.budget_s,
        ways=tuple(way.build for way in ways),
        tried=tuple(_said(tried) for tried in planned.tried),
        notes=(*((cases.note,) if cases.note else ()), *planned.notes),
    )
    tuned = found[variant.family] = add_search(
        store, known, search, ways, partial(_in_use, store, family.base)
    )
    return tuned_network(tried=search.tried, notes=search.notes, ways=tuned.ways, search=search)


def _planned(
    cases: GoldenCases, structure: Structure, tensors: Mapping[str, NDArray[Any]], **options: Any
) -> PrecisionPlan:
    """plan_precision with these cases. Raises: NothingHeldOut where the network does not take halves of what
    it takes; KernelError where it does not take the whole."""
    try:
        return plan_precision(
            structure, tensors, calibration=cases.calibration, held_out=cases.held_out, **options
        )
    except KernelError as error:
        if not cases.note:
            raise
        raise NothingHeldOut(f"it does not run on halves of its only golden case: {error}") from error


def _asked(plan: Plan, network: str, family: Family) -> str:
    """The identity of what a search depends on: a node's tells every step before it."""
    nodes = sorted(node.id for node in plan.nodes if network in {graph for graph, _ in members_of(node)})
    return identity(
        {
            "search": SEARCH,
            "machine": gates_id(),
            "network": network,
            "nodes": nodes,
            "golden": [{name: case[name] for name in case if name != "expect"} for case in plan.golden],
            "gate": msgspec.to_builtins(gate_of(plan)),
            "family": msgspec.to_builtins(family),
        }
    )


def _in_use(store: Store, base: str) -> frozenset[str] | None:
    """Builds that members of a family run on under the binding: of each engine the first; None: not known.

    What none of them would run on need not be tried at each promotion to come.
    """
    current = current_binding(store)
    if current is None or not made_here(current[1]):
        return None
    builds: set[str] = set()
    for bound in current[1].networks.values():
        if bound.family == base:
            first = {choice.engine: choice.build for choice in reversed(bound.choices)}
            builds.update(first.values())
    return frozenset(builds)


def labels_of(node: Node) -> Callable[[list[NDArray[Any]]], NDArray[np.integer[Any]]]:
    """What the step makes of a network's outputs, as labels: the largest class, or where the only one is."""
    output = int(node.parameters.get("output", 0))
    limit = 0.0 if node.parameters.get("activation") == "sigmoid" else 0.5
    one = len(node.parameters["segments"]) == 1

    def labels(outputs: list[NDArray[Any]]) -> NDArray[np.integer[Any]]:
        classes = outputs[output]
        if one and classes.shape[1] == 1:
            return np.asarray(classes[:, 0] > limit, np.uint8)
        return np.asarray(classes.argmax(axis=1), np.int32)

    return labels


def _family(store: Store, reader: NetworkReader, variant: Variant) -> Family:
    structure = Digest.parse(reader.record(variant.network).structure).sha256
    return families(store, structure)[variant.family]


def _said(tried: Tried) -> TriedWay:
    """What a record keeps of a candidate."""
    return TriedWay(
        engine=tried.engine,
        precision=tried.precision,
        levels={level: tried.levels.count(level) for level in sorted(set(tried.levels))},
        passed=tried.passed,
        refused=tried.refused,
        speedup=float(f"{tried.speed_up:.3g}"),
        folded=tried.folded,
    )

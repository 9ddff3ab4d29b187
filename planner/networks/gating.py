"""Whether a plan's masks stay what they are in plain fp32 when its networks run in other ways."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from models.values import LabelMap
from object_store.digest import Digest
from object_store.opening import Store
from planner.binding import Binding
from planner.golden_runs import GoldenRun
from planner.machine import machine_facts
from planner.networks.keeping import NetworkReader
from planner.networks.precision.gate import Gate, Verdict, judge, worst
from planner.networks.records import BoundNetwork, Family, Gated, Variant
from planner.networks.tuned import GateResult, Gates, Way, record_gates, recorded_gates, tuned_family, usable
from planner.plan import Plan
from planner.resources import StoreResources

Judged = Callable[[str, Way, Verdict], None]
"""Called with each network and way when the plan's masks were compared."""


def gate_of(plan: Plan) -> Gate:
    """What the pipeline asks, or the usual."""
    return Gate() if isinstance(plan.gate, msgspec.UnsetType) else msgspec.convert(plan.gate, Gate)


def gate_networks(
    store: Store,
    plan: tuple[Digest, Plan],
    networks: Sequence[str],
    runs: Callable[[], Sequence[GoldenRun]],
    judged: Judged = lambda network, way, verdict: None,
) -> bool:
    """Try every way that was found for these networks' families on the plan's golden runs, and record it.

    runs: asked for only if something was not tried yet. True if there is anything new. A plan without golden
    cases passes nothing: there is nothing to judge by.
    """
    digest, gate, new = plan[0], gate_of(plan[1]), False
    for network in networks:
        ways = _ways(store, network)
        known = recorded_gates(store, str(digest), network)
        tried = {result.build for result in known.results} if known else set()
        lacking = [way for way in ways if way.build not in tried]
        if not lacking:
            continue
        results = list(known.results) if known else []
        for way in lacking:
            verdict = plan_verdict(store, network, way, runs(), gate)
            judged(network, way, verdict)
            results.append(GateResult(build=way.build, passed=verdict.passed, figures=_figures(verdict)))
        record_gates(store, Gates(plan=str(digest), network=network, results=tuple(results)))
        new = True
    return new


def plan_verdict(store: Store, network: str, way: Way, runs: Sequence[GoldenRun], gate: Gate) -> Verdict:
    """How the plan's masks are, over all runs, when this network runs this way and all others plainly."""
    resources = StoreResources(store.objects.root).under(_trial(store, network, way))
    verdicts = []
    for run in runs:
        masks = run.masks(resources)
        verdicts += [_verdict(f"{run.title}, {name}", masks[name], run.reference, gate) for name in masks]
        if not verdicts[-1].passed:
            break
    if not verdicts:
        return msgspec.structs.replace(
            worst(()), passed=False, failures=("there is no golden case to judge by",)
        )
    return worst(verdicts)


def _verdict(case: str, mask: LabelMap, reference: Mapping[str, LabelMap], gate: Gate) -> Verdict:
    name = case.rpartition(", ")[2]
    return judge(case, [reference[name].labels], [mask.labels], gate)


def _ways(store: Store, network: str) -> tuple[Way, ...]:
    reader = NetworkReader(store.objects, store.names)
    variant = reader.variant(network)
    if variant is None:
        return ()
    family = _family(store, reader, variant)
    return () if family is None else usable(store, tuned_family(store, variant.family), family, variant)


def _family(store: Store, reader: NetworkReader, variant: Variant) -> Family | None:
    from planner.networks.families.members import families

    structure = Digest.parse(reader.record(variant.network).structure).sha256
    return families(store, structure).get(variant.family)


def _trial(store: Store, network: str, way: Way) -> Binding:
    """A binding that says this one thing."""
    from planner.names import variant_name

    named = store.names.get(variant_name(Digest.parse(network).sha256))
    choice = Gated(build=way.build, engine=way.engine, precision=way.precision, passed=True, figures={})
    bound = BoundNetwork(variant=str(named), choices=(choice,))
    return Binding(machine=machine_facts(), plans={}, stages=(), networks={network: bound})


def _figures(verdict: Verdict) -> dict[str, float | list[str]]:
    return {
        "least_dice": verdict.least_dice,
        "mean_dice": verdict.mean_dice,
        "volume_change": verdict.volume_change,
        "failures": list(verdict.failures[:3]),
    }

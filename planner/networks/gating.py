"""Whether a plan's masks stay what they are in plain fp32 when its networks run in other ways."""

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
import numpy as np

from object_store.digest import Digest
from object_store.opening import Store
from planner.binding import Binding
from planner.errors import NotChecked
from planner.golden_runs import GoldenRun
from planner.live import live_plans, served_plans
from planner.machine import machine_facts
from planner.names import variant_name
from planner.networks.bind import bound_networks, networks_in
from planner.networks.families.members import families
from planner.networks.judged import deciding, together_on
from planner.networks.keeping import NetworkReader
from planner.networks.precision.gate import Gate, Verdict, judge, refused, worst
from planner.networks.records import BoundNetwork, Family, Gated, Variant
from planner.networks.tuned import (
    GateResult,
    Gates,
    Way,
    add_results,
    gated,
    recorded_gates,
    tuned_family,
    usable,
)
from planner.plan import Plan

_NOTHING_SEEN = "the golden cases show no segment at all, so there is nothing to judge by"

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

    Each network is tried with all others in plain fp32, and then all together, see `_judge_together`.

    runs: asked for only if something was not tried yet. True if there is anything new. A plan without golden
    cases passes nothing: there is nothing to judge by.
    """
    digest, gate, new = plan[0], gate_of(plan[1]), False
    asked = msgspec.to_builtins(gate)
    for network in networks:
        ways = _ways(store, network)
        known = recorded_gates(store, str(digest), network)
        if known is not None and known.gate != asked:  # another version of Lightbox asks something else
            known = None
        tried = {result.build for result in known.results} if known else set()
        lacking = [way for way in ways if way.build not in tried]
        if not lacking:
            continue
        results = []
        for way in lacking:
            verdict = plan_verdict(store, {network: way}, runs(), gate)
            judged(network, way, verdict)
            results.append(GateResult(build=way.build, passed=verdict.passed, figures=_figures(verdict)))
        add_results(store, Gates(plan=str(digest), network=network, gate=asked, results=tuple(results)))
        new = True
    return _judge_together(store, plan, runs, judged) or new


def _judge_together(
    store: Store, plan: tuple[Digest, Plan], runs: Callable[[], Sequence[GoldenRun]], judged: Judged
) -> bool:
    """Try the plan with all its networks as they would be bound: small errors of several may add up.

    Where its masks do not pass, the network that did worst by itself is refused its way, and what is left is
    tried again. True if there is anything new.
    """
    digest, gate, new = plan[0], gate_of(plan[1]), False
    while len(ways := _preferred(store, digest, plan[1])) > 1:
        together = together_on({network: way.build for network, way in ways.items()})
        known = {network: recorded_gates(store, str(digest), network) for network in ways}
        if all(gates is not None and gates.together == together for gates in known.values()):
            break
        verdict, new = plan_verdict(store, ways, runs(), gate), True
        found = {network: gates for network, gates in known.items() if gates is not None}
        if verdict.passed:
            for gates in found.values():
                add_results(store, gates, together=together)
            break
        worst_one = min(found, key=lambda network: _mean_dice(found[network], ways[network]))
        judged(worst_one, ways[worst_one], verdict)
        add_results(store, _refused(found[worst_one], ways[worst_one], verdict), together="")
    return new


def _preferred(store: Store, digest: Digest, plan: Plan) -> dict[str, Way]:
    """By network of the plan, the way it would be bound to; without those in plain fp32."""
    users = networks_in({**live_plans(store), str(digest): plan})
    users = deciding(users, served_plans(store) | {str(digest)})
    found = {}
    for network in networks_in({str(digest): plan}):
        ways = {way.build: way for way in _ways(store, network)}
        results = [recorded_gates(store, user, network) for user in users[network]]
        first = next((way.build for way in gated(ways.values(), results) if way.passed), None)
        if first is not None:
            found[network] = ways[first]
    return found


def _mean_dice(gates: Gates, way: Way) -> float:
    return min(float(r.figures["mean_dice"]) for r in gates.results if r.build == way.build)


def _refused(gates: Gates, way: Way, verdict: Verdict) -> Gates:
    """Of the same plan and network: refused for what came of this way beside the plan's other networks."""
    failures = [f"with the pipeline's other networks: {sentence}" for sentence in verdict.failures[:3]]
    result = GateResult(build=way.build, passed=False, figures={**_figures(verdict), "failures": failures})
    return msgspec.structs.replace(gates, results=(result,))


def plan_verdict(store: Store, ways: Mapping[str, Way], runs: Sequence[GoldenRun], gate: Gate) -> Verdict:
    """How the plan's masks are, over all runs, when these networks run so and all others as bound plainly.

    Refused where that tells nothing: no run, no mask that one of these networks leads to, or no segment in
    any mask. A way that had to be stopped is refused too. Raises: InputRefused; KernelError; StoreError.
    """
    if not runs:
        return refused("there is no golden case to judge by")
    fed = {network for run in runs for network, inputs in run.fed.items() if inputs}
    if not fed.issuperset(ways):
        return refused("no mask of the golden cases depends on this network, so there is nothing to judge by")
    binding, verdicts = _trial(store, ways, fed.union(*(run.fed for run in runs))), []
    for run in runs:
        try:
            masks = run.masks_apart(store.objects.root, binding)
        except NotChecked as stopped:  # in fp32 it kept within the bounds
            return refused("; ".join(stopped.failures))
        for name, mask in masks.items():
            reference = run.reference[name].labels
            verdicts.append(judge(f"{run.title}, {name}", [reference], [mask.labels], gate))
        if not all(verdict.passed for verdict in verdicts):
            break
    found = msgspec.structs.replace(worst(verdicts), unseen=unseen_segments(runs))
    if found.passed and not found.judged:
        return msgspec.structs.replace(found, passed=False, failures=(_NOTHING_SEEN,))
    return found


def unseen_segments(runs: Sequence[GoldenRun]) -> tuple[str, ...]:
    """Segments that are in no mask of fp32, as `output: segment`: what a way does to them is not known."""
    seen: dict[str, bool] = {}
    for run in runs:
        for output, mask in run.reference.items():
            counts = np.bincount(mask.labels.ravel(), minlength=len(mask.segments) + 1)
            for label, segment in enumerate(mask.segments, 1):
                name = f"{output}: {segment}"
                seen[name] = seen.get(name, False) or bool(counts[label])
    return tuple(sorted(name for name, there in seen.items() if not there))


def _ways(store: Store, network: str) -> tuple[Way, ...]:
    reader = NetworkReader(store.objects, store.names)
    variant = reader.variant(network)
    if variant is None:
        return ()
    family = _family(store, reader, variant)
    return () if family is None else usable(store, tuned_family(store, variant.family), family, variant)


def _family(store: Store, reader: NetworkReader, variant: Variant) -> Family | None:
    structure = Digest.parse(reader.record(variant.network).structure).sha256
    return families(store, structure).get(variant.family)


def _trial(store: Store, ways: Mapping[str, Way], networks: Collection[str]) -> Binding:
    """A binding that says this of some networks, and of all others what it would without any way found.

    A network that is left out runs from its imported numbers, and has none once it is verified.
    """
    bound = bound_networks(store, dict.fromkeys(sorted(networks), ()))
    for network, way in ways.items():
        named = store.names.get(variant_name(Digest.parse(network).sha256))
        choice = Gated(build=way.build, engine=way.engine, precision=way.precision, passed=True, figures={})
        bound[network] = BoundNetwork(variant=str(named), choices=(choice,))
    return Binding(machine=machine_facts(), plans={}, stages=(), networks=bound)


def _figures(verdict: Verdict) -> dict[str, float | list[str]]:
    return {
        "least_dice": verdict.least_dice,
        "mean_dice": verdict.mean_dice,
        "volume_change": verdict.volume_change,
        "segments": verdict.segments,
        "tiny": verdict.tiny,
        "unseen": list(verdict.unseen),
        "failures": list(verdict.failures[:3]),
    }

"""Faster ways of running families, found on machines like this one, and which plans' gates they passed.

precision/<machine>/<base sha256>              the ways found for a family
gate/<machine>/<plan sha256>/<network sha256>  how a plan did with each of them

<machine> is planner.machine.gates_id().
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from object_store.digest import Digest
from object_store.local import LocalStore
from object_store.opening import Store
from planner.canonical import canonical_json
from planner.machine import gates_id
from planner.names import gate_name, gates_prefix, precision_name, precisions_prefix
from planner.networks.keeping import NetworkReader
from planner.networks.records import Engine, Family, Gated, Precision, Variant
from planner.turn import turn

T = TypeVar("T")

SEARCHES = 32
"""Of a family that are remembered: a record of some hundred kilobytes at most."""

TUNED_FORMAT = "lightbox.tuned/2"
GATES_FORMAT = "lightbox.gates/3"


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A build that the tuned network's own gate passed.

    seconds, baseline_seconds: of one run of the network, in turn with fp32 onnxruntime. figures: of its gate.
    lifted: what the build takes as inputs; a member that differs elsewhere cannot run on it. network: the one
    whose numbers are folded into the build, which computes no other; "" for a build of the family.
    """

    build: str
    engine: Engine
    precision: Precision
    seconds: float
    baseline_seconds: float
    figures: dict[str, Any] = {}
    lifted: tuple[str, ...] = ()
    network: str = ""

    @property
    def speedup(self) -> float:
        return self.baseline_seconds / self.seconds if self.seconds > 0 else 1.0


class TriedWay(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a candidate. levels: how many layers each has. speedup: 0 where not timed.

    folded: in a build of the tuned network's own."""

    engine: Engine
    precision: Precision
    levels: dict[str, int]
    passed: bool
    refused: str
    speedup: float
    folded: bool = False


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """One search for ways. asked: the identity of all that it depended on; ways: the builds it found.

    budget_s: the time it was allowed. tried: every candidate, in order.
    """

    asked: str
    budget_s: float
    ways: tuple[str, ...]
    tried: tuple[TriedWay, ...]
    notes: tuple[str, ...] = ()


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for a family: `ways` from fastest to slowest; plain fp32 is not among them.

    searches: the last ones, the latest last, whose ways are all still there.
    """

    format: str = TUNED_FORMAT
    family: str
    ways: tuple[Way, ...]
    searches: tuple[Search, ...] = ()

    def remembered(self, asked: str, budget_s: float) -> Search | None:
        """The search for the very same, if it had at least this time."""
        return next((s for s in self.searches if s.asked == asked and s.budget_s >= budget_s), None)

    def with_search(self, search: Search, ways: Iterable[Way], in_use: Collection[str] | None) -> "Tuned":
        """This and what one more search found. Of the ways that were known those stay that are `in_use`
        (builds; None: all), so that what was found for one member does not slow down another."""
        known = {way.build: way for way in self.ways if in_use is None or way.build in in_use}
        merged = known | {way.build: way for way in ways}
        kept = [s for s in self.searches if s.asked != search.asked and merged.keys() >= set(s.ways)]
        return Tuned(
            family=self.family,
            ways=tuple(sorted(merged.values(), key=lambda way: (-way.speedup, way.build))),
            searches=(*kept, search)[-SEARCHES:],
        )


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one plan's masks were with one build, against plain fp32."""

    build: str
    passed: bool
    figures: dict[str, Any]


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """How one plan did with each build of one of its networks. gate: what it asked (fields of Gate).

    together: the ways of all the plan's networks, as an identity, with which its masks passed last; "" where
    no other network of it runs in another way than plain fp32.
    """

    format: str = GATES_FORMAT
    plan: str
    network: str
    gate: dict[str, float]
    together: str = ""
    results: tuple[GateResult, ...] = ()

    def with_results(self, results: Iterable[GateResult]) -> "Gates":
        """With more of them. Where a build was judged twice, a refusal stands: it may be for what came of
        the build together with the plan's other networks."""
        merged = {result.build: result for result in self.results}
        for result in results:
            if result.build not in merged or not result.passed:
                merged[result.build] = result
        return msgspec.structs.replace(self, results=tuple(merged.values()))


def record_tuned(store: Store, tuned: Tuned) -> None:
    """Keep what was found for a family on this machine, in place of what was found before."""
    digest = store.objects.put(canonical_json(msgspec.to_builtins(tuned)))
    store.names.set(precision_name(gates_id(), Digest.parse(tuned.family).sha256), digest)


def record_gates(store: Store, gates: Gates) -> None:
    """Keep how a plan did, in place of how it did before."""
    digest = store.objects.put(canonical_json(msgspec.to_builtins(gates)))
    plan, network = Digest.parse(gates.plan).sha256, Digest.parse(gates.network).sha256
    store.names.set(gate_name(gates_id(), plan, network), digest)


def add_search(
    store: Store,
    before: Tuned,
    search: Search,
    ways: Iterable[Way],
    in_use: Callable[[], Collection[str] | None],
) -> Tuned:
    """Record what one more search found beside what is recorded now, which others may have added to.

    before: what was recorded when the search began; in_use: gives what Tuned.with_search asks for. What came
    since then is kept, whether it is in use already or not. Takes a `turn` of the store.
    """
    with turn(store):
        now = tuned_family(store, before.family) or Tuned(family=before.family, ways=())
        used, older = in_use(), {way.build for way in before.ways}
        kept = None if used is None else {*used, *(way.build for way in now.ways if way.build not in older)}
        tuned = now.with_search(search, ways, kept)
        record_tuned(store, tuned)
    return tuned


def restore_search(store: Store, family: str, search: Search, ways: Iterable[Way]) -> None:
    """Record again what a search found, where a later one let it go as nothing was bound to it yet.

    To be called within a `turn` of the store, and so before it is bound.
    """
    now = tuned_family(store, family) or Tuned(family=family, ways=())
    if not {way.build for way in now.ways}.issuperset(search.ways):
        record_tuned(store, now.with_search(search, ways, None))


def add_results(store: Store, gates: Gates, together: str | None = None) -> None:
    """Record more of how a plan did with a network: `gates.results` beside what is recorded now, by whomever.

    together: what `Gates.together` is to be from now on; None: as it is recorded. What was recorded for
    another gate is dropped. Takes a `turn` of the store.
    """
    with turn(store):
        now = recorded_gates(store, gates.plan, gates.network)
        if now is None or now.gate != gates.gate:
            now = msgspec.structs.replace(gates, results=())
        kept = now.together if together is None else together
        record_gates(store, msgspec.structs.replace(now.with_results(gates.results), together=kept))


def tuned_family(store: Store, base: str) -> Tuned | None:
    """What was found for this family on this machine model; None if nothing was looked for."""
    named = store.names.get(precision_name(gates_id(), Digest.parse(base).sha256))
    return None if named is None else _tuned(store.objects.root, named)


def tuned_families(store: Store) -> dict[str, Tuned]:
    """By base, all that was found on this machine model."""
    named = store.names.items(precisions_prefix(gates_id())).values()
    found = (_tuned(store.objects.root, digest) for digest in named)
    return {tuned.family: tuned for tuned in found if tuned is not None}


def recorded_gates(store: Store, plan: str, network: str) -> Gates | None:
    """How a plan did with a network of it on this machine model; None if it was not tried."""
    name = gate_name(gates_id(), Digest.parse(plan).sha256, Digest.parse(network).sha256)
    named = store.names.get(name)
    return None if named is None else _gates(store.objects.root, named)


def all_gates(store: Store) -> dict[tuple[str, str], Gates]:
    """By plan and network, all results on this machine model."""
    named = store.names.items(gates_prefix(gates_id())).values()
    found = (_gates(store.objects.root, digest) for digest in named)
    return {(gates.plan, gates.network): gates for gates in found if gates is not None}


def usable(store: Store, tuned: Tuned | None, family: Family, variant: Variant) -> tuple[Way, ...]:
    """The ways that compute this member: its own, and those of the family if it differs from the base only in
    what the builds take in.

    A member with large tensors of its own (low-rank, sparse or full) runs on no build of the family: there
    the base's filters are rounded, and what a difference to them would mean is not what was tried.
    """
    if tuned is None:
        return ()
    whole = any(how != "scaled" for how in variant.kept.values())

    def computes(way: Way) -> bool:
        if way.network or whole:
            return way.network == variant.network
        more = tuple(name for name in family.lifted if name not in way.lifted)
        return not more or _equal_in(store.objects.root, variant.network, family.base, more)

    return tuple(way for way in tuned.ways if computes(way))


def gated(ways: Iterable[Way], results: Iterable[Gates | None]) -> tuple[Gated, ...]:
    """Of these ways those that all the plans passed with, and those that any refused; worst figures of each.

    A way that is neither was not tried by all of them.
    """
    given = list(results)
    found = []
    for way in ways:
        judged = [_result(gates, way.build) for gates in given]
        there = [result for result in judged if result is not None]
        passed = bool(judged) and len(there) == len(judged) and all(result.passed for result in there)
        if passed or not all(result.passed for result in there):
            found.append(
                Gated(
                    build=way.build,
                    engine=way.engine,
                    precision=way.precision,
                    passed=passed,
                    alone=bool(way.network),
                    figures={
                        "seconds": way.seconds,
                        "baseline_seconds": way.baseline_seconds,
                        "speedup": float(f"{way.speedup:.3g}"),
                        **_worst([result.figures for result in there]),
                    },
                )
            )
    return tuple(found)


def _result(gates: Gates | None, build: str) -> GateResult | None:
    return next((result for result in gates.results if result.build == build), None) if gates else None


def _worst(figures: list[Mapping[str, Any]]) -> dict[str, Any]:
    failures = [sentence for one in figures for sentence in one.get("failures", ())]
    unseen = sorted({name for one in figures for name in one.get("unseen", ())})
    return {
        "least_dice": min(float(one["least_dice"]) for one in figures),
        "mean_dice": min(float(one["mean_dice"]) for one in figures),
        "volume_change": max(float(one["volume_change"]) for one in figures),
        "segments": min(int(one["segments"]) for one in figures),
        "tiny": min(int(one["tiny"]) for one in figures),
        **({"unseen": unseen} if unseen else {}),
        **({"failures": failures[:3]} if failures else {}),
    }


@lru_cache(maxsize=8192)
def _equal_in(store: Path, network: str, base: str, names: tuple[str, ...]) -> bool:
    """Whether a member's small tensors of these names, as its family's stage takes them, are the base's."""
    reader = NetworkReader(LocalStore(store))
    ours, theirs = reader.effective_small(network), reader.small(base)
    return all(np.array_equal(ours[name], theirs[name]) for name in names if name in theirs)


@lru_cache(maxsize=1024)
def _tuned(store: Path, digest: Digest) -> Tuned | None:
    return _read(store, digest, Tuned, TUNED_FORMAT)


@lru_cache(maxsize=8192)
def _gates(store: Path, digest: Digest) -> Gates | None:
    return _read(store, digest, Gates, GATES_FORMAT)


def _read(store: Path, digest: Digest, type_: type[T], format_: str) -> T | None:
    """A record, or None if it is of another version: then it is as if nothing had been found."""
    try:
        found = msgspec.json.decode(LocalStore(store).get(digest), type=type_)
    except msgspec.DecodeError:
        return None
    return found if found.format == format_ else None  # type: ignore[attr-defined]  # all of them have one

"""Which networks the live plans use, and how each of them runs under the binding that is being made.

Nothing is done again for a member of a family that is as it was: what is remembered is told by digests, so
that one more variant costs one more entry, not a look at all the others.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from object_store.digest import Digest
from object_store.opening import Store
from planner.canonical import identity
from planner.errors import Unreadable
from planner.machine import gates_id
from planner.names import FAMILIES, VARIANTS
from planner.networks.joint import WORDS, JointParts, PartsOf, members_of
from planner.networks.judged import judged_together
from planner.networks.keeping import NetworkReader, network_references
from planner.networks.records import BoundNetwork, Build, Engine, Family, Gated, Precision, Variant
from planner.networks.tuned import Gates, Tuned, all_gates, gated, tuned_families, usable
from planner.plan import Node, Plan

if TYPE_CHECKING:
    from planner.networks.building.build import LowRank

log = logging.getLogger(__name__)

_MADE = "build/3"
"""The tag of a family's builds, with the version of what makes them: another makes them again."""


def networks_in(plans: Mapping[str, Plan]) -> dict[str, tuple[str, ...]]:
    """Every graph without an authored variant that plans (by digest) run, with the plans that do; sorted."""
    return users_of({digest: opened_graphs(plan) for digest, plan in plans.items()})


def opened_graphs(plan: Plan) -> frozenset[str]:
    """Every graph without an authored variant that a plan runs."""
    return frozenset(
        graph for node in network_nodes(plan) for graph, variant in members_of(node) if not variant
    )


def users_of(graphs: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """The other way round: by graph, the plans that run it; sorted. graphs: by plan."""
    users: dict[str, list[str]] = {}
    for digest in sorted(graphs):
        for graph in graphs[digest]:
            users.setdefault(graph, []).append(digest)
    return {graph: tuple(users[graph]) for graph in sorted(users)}


def network_nodes(plan: Plan) -> tuple[Node, ...]:
    """The nodes that run networks."""
    return tuple(node for node in plan.nodes if node.operator in WORDS)


def runs_several(node: Node) -> bool:
    """Whether the node by itself runs more than one network."""
    return len(members_of(node)) > 1


def bound_networks(store: Store, users: Mapping[str, Sequence[str]]) -> dict[str, BoundNetwork]:
    """How each opened network runs: on its family's builds, in what passed the gates of all its users, and of
    each of these with its other networks as they run (`judged_together`).

    users: by network, the plans whose gates decide (planner.networks.judged.deciding); of no plan: in plain
    fp32.

    A network that is kept inexactly and was not verified yet is left out, and so runs from its imported
    numbers; opaque graphs are left out too. The last of all choices is fp32 on onnxruntime.
    """
    if not users:
        return {}
    variants = store.names.items(VARIANTS)
    families, gates, root = _Families(store), all_gates(store), store.objects.root
    bound = {}
    for graph, plans in users.items():
        named = variants.get(VARIANTS + Digest.parse(graph).sha256)
        variant = named and _variant(root, named)
        if not named or not variant or not (variant.exact or variant.verified):
            continue
        family = families.of(variant.family)
        if family is not None:
            results = {plan: gates.get((plan, graph)) for plan in plans} if family.tuned else {}
            bound[graph] = family.bound(str(named), variant, results)
    return judged_together(bound, users, gates)


def shared_parts(store: Store, bound: Mapping[str, BoundNetwork]) -> PartsOf:
    """For find_joint: the parts of networks that are bound; others have none."""

    def parts(networks: tuple[str, ...], fed: tuple[int, ...]) -> JointParts | None:
        if not bound.keys() >= set(networks):
            return None
        from planner.networks.cutting.parts import stored_parts

        return stored_parts(store, {network: speedup(bound[network]) for network in networks})(networks, fed)

    return parts


def speedup(bound: BoundNetwork) -> float:
    """How much faster the first choice is than plain fp32, as measured then; 1 if it is that."""
    return float(bound.choices[0].figures.get("speedup", 1.0)) if bound.choices else 1.0


class _Families:
    """Families by their bases, each read and built once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._named = {
            name.rpartition("/")[2]: digest for name, digest in store.names.items(FAMILIES).items()
        }
        self._tuned = tuned_families(store)
        self._read: dict[str, _BuiltFamily | None] = {}

    def of(self, base: str) -> "_BuiltFamily | None":
        if base not in self._read:
            named = self._named.get(Digest.parse(base).sha256)
            self._read[base] = (
                None if named is None else _BuiltFamily(self._store, named, self._tuned.get(base))
            )
        return self._read[base]


class _BuiltFamily:
    """One family with its builds in fp32, and what was found for it on this machine."""

    def __init__(self, store: Store, digest: Digest, tuned: Tuned | None) -> None:
        self._store, self._digest, self.tuned = store, digest, tuned
        self._family: Family = NetworkReader(store.objects, store.names).read(digest, Family)
        self._plain: dict[bool, Gated] = {}

    def bound(self, named: str, variant: Variant, results: Mapping[str, Gates | None]) -> BoundNetwork:
        """How a member (`named`: the digest of its variant) runs. results: by plan that uses it."""
        usable_ways = usable(self._store, self.tuned, self._family, variant) if self.tuned else ()
        ways = gated(usable_ways, results.values()) if usable_ways else ()
        asked = [found.gate for found in results.values() if found is not None] if ways else []
        return BoundNetwork(
            variant=named,
            family=variant.family,
            choices=(*(way for way in ways if way.passed), self._in_fp32(variant)),
            refused=tuple(way for way in ways if not way.passed),
            gates=tuple(gate for place, gate in enumerate(asked) if gate not in asked[:place]),
            unjudged=_unjudged({way.build for way in usable_ways} - {way.build for way in ways}, results),
        )

    def _in_fp32(self, variant: Variant) -> Gated:
        kind = _of_low_rank(variant)
        if kind not in self._plain:
            build = build_in_fp32(self._store, self._digest, self._family, variant)
            self._plain[kind] = Gated(
                build=str(build), engine="onnxruntime", precision="fp32", passed=True, figures={}
            )
        return self._plain[kind]


def _unjudged(builds: Collection[str], results: Mapping[str, Gates | None]) -> tuple[str, ...]:
    """Plans that have not tried one of these builds, which no plan has refused."""
    if not builds:
        return ()
    tried = {
        plan: {result.build for result in gates.results} if gates else set()
        for plan, gates in results.items()
    }
    return tuple(plan for plan in results if not tried[plan].issuperset(builds))


def build_in_fp32(store: Store, digest: Digest, family: Family, variant: Variant) -> Digest:
    """The build of its family that a member runs on in plain fp32 (onnxruntime), made now or before.

    One whose large tensors differ from the base's by low rank alone runs on a build with their factors as
    inputs, if that is quick enough (`APPLIED_TIME`). All others run on one without: factors of noughts would
    cost them as much time. digest: of the family.
    """
    if _of_low_rank(variant) and _applies(store, digest, family, variant):
        return built(store, digest, family, low_rank="applied")
    return built(store, digest, family)


def _of_low_rank(variant: Variant) -> bool:
    """Whether its large tensors differ in effect, and all that do by low rank."""
    kept = variant.kept.values()
    return "low_rank" in kept and "sparse" not in kept and "stored" not in kept


def _applies(store: Store, digest: Digest, family: Family, variant: Variant) -> bool:
    """Whether the family's low-rank differences are applied at run time: timed once for a base and ranks,
    with the first such member, and noted in a tag beside the base."""
    from planner.networks.applied import APPLIED_TIME, applied_time
    from planner.networks.building.build import applicable

    base, tag = Digest.parse(family.base), _tag("applied", identity(family.low_rank))
    known = store.names.tags(base).get(tag)
    if known is None:
        reader, times = NetworkReader(store.objects, store.names), float("inf")
        if applicable(reader.structure(family.base), family):
            builds = [str(built(store, digest, family, low_rank=how)) for how in ("applied", "materialised")]
            record = store.objects.put(variant.to_bytes())  # there already, or about to be named
            times = applied_time(store.objects.root, builds[0], builds[1], variant.network, str(record))
        known = f"{times:.3g}"
        store.names.tag(base, tag, known)
    return float(known) <= APPLIED_TIME


def built(
    store: Store,
    digest: Digest,
    family: Family,
    *,
    engine: Engine = "onnxruntime",
    precision: Precision = "fp32",
    low_rank: "LowRank" = "materialised",
) -> Digest:
    """The build of a family, made now or before; its digest changes only if the family has changed, or the
    machine's processor or engines.

    That it was made is noted in a tag beside the family, which keeps nothing from garbage collection: the
    binding does. low_rank: see build_family.
    """
    tag = _tag(engine, precision, low_rank)
    known = store.names.tags(digest).get(tag)
    if known and _intact(store, Digest.parse(known)):
        return Digest.parse(known)
    from planner.networks.building.build import build_family

    build = build_family(store, family, engine=engine, precision=precision, low_rank=low_rank)
    store.names.tag(digest, tag, str(build))
    return build


def _tag(*words: str) -> str:
    """What is noted beside a family holds for this machine's processor and versions of the engines: builds
    are packed for them."""
    return "/".join((_MADE, gates_id(), *words))


def _intact(store: Store, digest: Digest) -> bool:
    """Whether nothing of a build was collected as garbage; what is here is safe for a while from now on."""
    if store.objects.missing([digest]):
        return False
    found: Build = NetworkReader(store.objects, store.names).read(digest, Build)
    kept = network_references(found.to_bytes())
    return not store.objects.missing(kept) and (
        not found.otherwise or _intact(store, Digest.parse(found.otherwise))
    )


@lru_cache(maxsize=8192)
def _variant(store: Path, digest: Digest) -> Variant | None:
    """A record never changes, so this process reads it once. None: not of this version."""
    from object_store.local import LocalStore

    try:
        found: Variant = NetworkReader(LocalStore(store)).read(digest, Variant)
    except Unreadable as error:
        log.warning("a network is left out of the binding: %s", error)
        return None
    return found

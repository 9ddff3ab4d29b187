"""What families of networks share, tensor by tensor and member by member; and which networks are opaque."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from object_store.digest import Digest
from object_store.opening import Store
from planner.errors import UnknownNetwork
from planner.live import current_binding, live_plans
from planner.names import NETWORKS, exact_name
from planner.networks.adopt import why_opaque
from planner.networks.compared import is_opened
from planner.networks.families.members import families, variants
from planner.networks.joint import members_of
from planner.networks.keeping import NetworkReader, unpacked_small
from planner.networks.records import BoundNetwork, Exact, Family, Gated, Keeping, Variant
from planner.networks.structure import Structure
from planner.plan import Plan

Sharing: TypeAlias = Literal["constant", "lifted", "scaled", "low-rank", "sparse", "private"]
"""How a tensor is in a family. constant: equal in all members; lifted: small, each member feeds its own;
scaled, low-rank, sparse: the base's, with a factor per channel, a thin product, or a few numbers of its own;
private: some member has it in full."""

SHARINGS: tuple[Sharing, ...] = get_args(Sharing)

_OF_KEEPING: Mapping[Keeping, Sharing] = {
    "equal": "constant",
    "scaled": "scaled",
    "low_rank": "low-rank",
    "sparse": "sparse",
    "stored": "private",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyTensor:
    """A learned tensor of the structure."""

    name: str
    read_by: str
    """The type of the operator that reads it first."""
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    sharing: Sharing
    differing: Mapping[Sharing, int]
    """In how many members it is not the base's, by how it is kept there."""
    adds_bytes: int
    """What all members together keep for it beside the base's."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Operators in order, the first of which reads learned filters (or the input), and what they read."""

    operators: tuple[str, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyMember:
    """One network of a family; adds: bytes it keeps beside the base's tensors, by kind (none: not there)."""

    network: str
    names: tuple[str, ...]
    """Pipelines and other names it goes by, sorted."""
    is_base: bool
    adds: Mapping[Sharing, int]
    tolerance: float
    """Largest relative error of a number that is computed from the base's; 0: bit for bit."""
    verified: bool
    """False: kept inexactly, and not compared on outputs yet; it runs from its own numbers."""
    until_verified: Mapping[str, int]
    """Objects (digest: bytes) that give back its imported numbers, kept besides until it is verified."""
    runs: Gated | None
    """What the binding prefers; None: its exact numbers, fp32, on onnxruntime."""

    @property
    def adds_bytes(self) -> int:
        """Numbers only: the records that say how it is kept are counted by planner.reports.stats."""
        return sum(self.adds.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyBuild:
    """A compiled form that members run on or were refused on, with gate figures as (least, largest)."""

    build: str
    engine: str
    precision: str
    alone: bool
    """Whether it computes one member only."""
    passed: int
    """Members whose gate it passed."""
    refused: int
    preferred: int
    """Members that run on it where its engine is there."""
    figures: Mapping[str, tuple[float, float]]
    """Of those that passed; of those that did not, where none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyReport:
    """A family. Members: the base first, then by name."""

    structure: str
    base: str
    inputs: tuple[str, ...]
    """As `float32[n, 1, 512, 512]`."""
    outputs: tuple[str, ...]
    operators: Mapping[str, int]
    layers: tuple[Layer, ...]
    parameters: int
    bytes: int
    """All tensors of one member, in full."""
    tensors: tuple[FamilyTensor, ...]
    members: tuple[FamilyMember, ...]
    builds: tuple[FamilyBuild, ...]

    @property
    def adds_bytes(self) -> int:
        """What the members keep beside the base's tensors."""
        return sum(member.adds_bytes for member in self.members)

    @property
    def until_verified_bytes(self) -> int:
        """What all of them keep besides until they are verified; objects of several once."""
        return sum({d: n for member in self.members for d, n in member.until_verified.items()}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueNetwork:
    """A graph that the planner does not see into; variant: its parameter file, or empty."""

    graph: str
    variant: str
    names: tuple[str, ...]
    bytes: int
    why: str


def family_report(
    store: Store, wanted: Iterable[str] = ()
) -> tuple[tuple[FamilyReport, ...], tuple[OpaqueNetwork, ...]]:
    """Families and opaque networks of these pipelines and networks; by default of all in the store.

    wanted: names of pipelines or of networks, digests, or the first 6 or more digits of a digest.
    Raises: UnknownNetwork, StoreError.
    """
    plans = live_plans(store)
    names = _names(store, plans)
    opaque = _opaque(store, plans)
    kept = variants(store)
    chosen = None
    if asked := tuple(wanted):
        known = {*kept, *(network.graph for network in opaque)}
        chosen = {network for name in asked for network in _found(name, names, known)}
    by_base: dict[str, list[Variant]] = {}
    for variant in kept.values():
        by_base.setdefault(variant.family, []).append(variant)
    current = current_binding(store)
    bound = current[1].networks if current else {}
    reports = [
        _family(store, family, by_base.get(base, []), names, bound)
        for base, family in families(store).items()
        if chosen is None or any(variant.network in chosen for variant in by_base.get(base, ()))
    ]
    reports.sort(key=lambda report: (-len(report.members), report.base))
    return tuple(reports), tuple(n for n in opaque if chosen is None or n.graph in chosen)


def networks_named(store: Store, name: str) -> tuple[str, ...]:
    """Digests of the networks, opaque graphs among them, that `family_report` takes this name for; sorted.

    Raises: UnknownNetwork, StoreError.
    """
    plans = live_plans(store)
    known = {*variants(store), *(network.graph for network in _opaque(store, plans))}
    return tuple(sorted(_found(name, _names(store, plans), known)))


def _names(store: Store, plans: Mapping[str, Plan]) -> dict[str, set[str]]:
    """By network or opaque graph: the pipelines that run it and the names it was added under."""
    found: dict[str, set[str]] = {}
    for plan in plans.values():
        for graph, _ in _networks_of(plan):
            found.setdefault(graph, set()).add(plan.pipeline)
    for name, digest in store.names.items(NETWORKS).items():
        found.setdefault(str(digest), set()).add(name.removeprefix(NETWORKS))
    return found


def _networks_of(plan: Plan) -> Iterator[tuple[str, str]]:
    for node in plan.nodes:
        yield from members_of(node)


def _opaque(store: Store, plans: Mapping[str, Plan]) -> list[OpaqueNetwork]:
    pipelines: dict[tuple[str, str], set[str]] = {}
    for plan in plans.values():
        for pair in _networks_of(plan):
            pipelines.setdefault(pair, set()).add(plan.pipeline)
    found = []
    for (graph, variant), names in sorted(pipelines.items()):
        digest = Digest.parse(graph)
        if not variant and is_opened(store, graph):
            continue
        found.append(
            OpaqueNetwork(
                graph=graph,
                variant=variant,
                names=tuple(sorted(names)),
                bytes=digest.size + (Digest.parse(variant).size if variant else 0),
                why=why_opaque(store, graph) or "it was compiled before networks were opened",
            )
        )
    return found


def _found(name: str, names: Mapping[str, set[str]], known: set[str]) -> set[str]:
    by_name = {network for network, users in names.items() if name in users and network in known}
    digits = name.removeprefix("sha256:")
    by_digest = {n for n in known if n == name or n.removeprefix("sha256:").startswith(digits)}
    found = by_name or (by_digest if len(digits) >= 6 else set())
    if not found:
        raise UnknownNetwork(name)
    return found


def _family(
    store: Store,
    family: Family,
    kept: Sequence[Variant],
    names: Mapping[str, set[str]],
    bound: Mapping[str, BoundNetwork],
) -> FamilyReport:
    reader = NetworkReader(store.objects, store.names)
    structure = reader.structure(family.base)
    base_small = reader.small(family.base)
    adds = {variant.network: _adds(reader, structure, base_small, variant) for variant in kept}
    runs = {v.network: _first(bound.get(v.network)) for v in kept}
    members = [
        FamilyMember(
            network=variant.network,
            names=tuple(sorted(names.get(variant.network, ()))),
            is_base=variant.network == family.base,
            adds=_by_kind(adds[variant.network]),
            tolerance=variant.tolerance,
            verified=variant.exact or variant.verified is not None,
            until_verified=_until_verified(store, reader, variant.network),
            runs=runs[variant.network],
        )
        for variant in kept
    ]
    members.sort(key=lambda member: (not member.is_base, member.names or ("~",), member.network))
    reads = structure.consumers()
    return FamilyReport(
        structure=family.structure,
        base=family.base,
        inputs=tuple(f"{port.dtype}[{', '.join(map(str, port.shape))}]" for port in structure.inputs),
        outputs=tuple(f"{port.dtype}[{', '.join(map(str, port.shape))}]" for port in structure.outputs),
        operators=dict(Counter(op.type for op in structure.ops).most_common()),
        layers=_layers(structure),
        parameters=sum(int(np.prod(tensor.shape)) for tensor in structure.tensors.values()),
        bytes=sum(tensor.nbytes for tensor in structure.tensors.values()),
        tensors=tuple(
            FamilyTensor(
                name=name,
                read_by=reads[name][0].type if name in reads else "",
                shape=structure.tensors[name].shape,
                dtype=structure.tensors[name].dtype,
                bytes=structure.tensors[name].nbytes,
                sharing=_sharing(name, family, kept),
                differing=dict(Counter(added[name][0] for added in adds.values() if name in added)),
                adds_bytes=sum(added[name][1] for added in adds.values() if name in added),
            )
            for name in structure.tensor_names()
        ),
        members=tuple(members),
        builds=_builds([bound[variant.network] for variant in kept if variant.network in bound]),
    )


_ELEMENTWISE = frozenset({"Add", "Div", "Mul", "PRelu", "Sub"})
"""They belong to the layer whose result they scale and shift."""


def _layers(structure: Structure) -> tuple[Layer, ...]:
    layers: list[tuple[list[str], list[str]]] = []
    seen: set[str] = set()
    for op in structure.ops:
        learned = [name for name in op.inputs if name in structure.tensors and name not in seen]
        if not layers or (learned and op.type not in _ELEMENTWISE):
            layers.append(([], []))
        layers[-1][0].append(op.type)
        layers[-1][1].extend(dict.fromkeys(learned))
        seen.update(learned)
    return tuple(Layer(tuple(operators), tuple(tensors)) for operators, tensors in layers)


def _adds(
    reader: NetworkReader, structure: Structure, base: Mapping[str, NDArray[Any]], variant: Variant
) -> dict[str, tuple[Sharing, int]]:
    """By tensor in which a member differs from the base: how, and the bytes it keeps for that."""
    if variant.network == variant.family:
        return {}
    found: dict[str, tuple[Sharing, int]] = {}
    extra: Counter[str] = Counter()
    for key, array in reader.arrays(variant).items():
        extra[key.partition(".")[0]] += array.nbytes
    for name, how in variant.kept.items():
        whole = structure.tensors[name].nbytes
        found[name] = (_OF_KEEPING[how], whole if how == "stored" else extra[name])
    record = reader.record(variant.network)
    own = unpacked_small(structure, reader.objects.get(Digest.parse(record.small)))
    for name, array in own.items():
        if name not in found and array.tobytes() != base[name].tobytes():
            found[name] = ("lifted", array.nbytes)
    return found


def _until_verified(store: Store, reader: NetworkReader, network: str) -> dict[str, int]:
    named = store.names.get(exact_name(Digest.parse(network).sha256))
    if named is None:
        return {}
    exact: Exact = reader.read(named, Exact)
    return {text: Digest.parse(text).size for text in (exact.residual, *exact.tensors.values()) if text}


def _by_kind(adds: Mapping[str, tuple[Sharing, int]]) -> dict[Sharing, int]:
    found: Counter[Sharing] = Counter()
    for sharing, size in adds.values():
        found[sharing] += size
    return {sharing: found[sharing] for sharing in SHARINGS if sharing in found}


def _sharing(name: str, family: Family, kept: Sequence[Variant]) -> Sharing:
    if any(variant.kept.get(name) == "stored" for variant in kept):
        return "private"
    if name in family.sparse:
        return "sparse"
    if name in family.low_rank:
        return "low-rank"
    if name in family.scaled:
        return "scaled"
    return "lifted" if name in family.lifted else "constant"


def _first(bound: BoundNetwork | None) -> Gated | None:
    return bound.choices[0] if bound and bound.choices else None


def _builds(bound: Sequence[BoundNetwork]) -> tuple[FamilyBuild, ...]:
    """The builds of these networks, those that most of them prefer first."""
    gated: dict[str, list[Gated]] = {}
    for network in bound:
        for choice in (*network.choices, *network.refused):
            gated.setdefault(choice.build, []).append(choice)
    preferred = Counter(network.choices[0].build for network in bound if network.choices)
    found = [
        FamilyBuild(
            build=build,
            engine=choices[0].engine,
            precision=choices[0].precision,
            alone=choices[0].alone,
            passed=sum(choice.passed for choice in choices),
            refused=sum(not choice.passed for choice in choices),
            preferred=preferred[build],
            figures=_ranges([c.figures for c in choices if c.passed] or [c.figures for c in choices]),
        )
        for build, choices in gated.items()
    ]
    return tuple(sorted(found, key=lambda build: (-build.preferred, build.engine, build.precision)))


def _ranges(figures: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    values: dict[str, list[float]] = {}
    for one in figures:
        for name, value in one.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault(name, []).append(float(value))
    return {name: (min(found), max(found)) for name, found in sorted(values.items())}

"""What was chosen for a network, as it is served: stored as `lightbox tune` does, loaded as a worker does.

On the way there a way may lose what it gained in the search: its numbers come out of the store, members of a
family share a build, and batches are run in pieces.
"""

from dataclasses import dataclass

from loadtest.benches.real_networks import RealNetwork, registered
from models.operators.base import NetworkSession
from object_store.local import LocalStore
from object_store.opening import Store
from planner.networks.bind import bound_networks
from planner.networks.families.members import families
from planner.networks.keeping import NetworkReader
from planner.networks.precision.candidates import PrecisionPlan, Tried
from planner.networks.running.load import NetworkLoader
from planner.networks.tuned import Way
from planner.networks.tuned_builds import stored_ways

LIFTED = "lifted"


@dataclass(frozen=True, slots=True)
class Served:
    """How a network runs with one engine set. tried: what was found of it while it was looked for; of plain
    fp32 onnxruntime only its levels, for it is what all others are held against."""

    tried: Tried
    session: NetworkSession


def served(store: Store, network: RealNetwork, plan: PrecisionPlan) -> dict[str, Served]:
    """Register the network with its family, store what was planned, and load it with the plan's threads.

    By engine set, as in the plan: of the ways that `lightbox tune` keeps, that which a binding would run
    first. Where that is a build of the network's own, LIFTED is what the other members of its family run on.
    Where no way is worth keeping it is the family's plain build. Raises: StoreError, KernelError.
    """
    digest = str(registered(store, network.opened, network.siblings))
    bound = bound_networks(store, {digest: ()})[digest]
    family = families(store)[bound.family]
    reader = NetworkReader(store.objects, store.names)
    ways = stored_ways(store, plan, family, digest, False, reader)
    loader = NetworkLoader(LocalStore(store.objects.root, verify_on_read=True), threads=plan.threads)

    def first(among: list[Way]) -> Served:
        if not among:
            plainly = Tried(engine="onnxruntime", precision="fp32", levels=tuple("fp32" for _ in plan.layers))
            return Served(plainly, loader.member(bound.choices[-1].build, digest, bound.variant))
        return Served(_tried(plan, among[0]), loader.member(among[0].build, digest, bound.variant))

    found = {
        "all": first(list(ways)),
        "onnxruntime": first([way for way in ways if way.engine == "onnxruntime"]),
    }
    if ways and ways[0].network:
        found[LIFTED] = first([way for way in ways if not way.network])
    return found


def _tried(plan: PrecisionPlan, way: Way) -> Tried:
    """What the search found of a way that came of it."""
    chosen = [*plan.choices.values(), *([plan.folded] if plan.folded else [])]
    asked = (way.engine, way.precision, way.seconds, bool(way.network))
    return next(
        choice.tried
        for choice in chosen
        if (choice.tried.engine, choice.tried.precision, choice.tried.seconds, choice.tried.folded) == asked
    )

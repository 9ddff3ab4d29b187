"""At promotion: what a plan's networks may run from, and in which precision, before it is served."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache

from object_store.digest import Digest
from object_store.opening import Store
from planner.networks.bind import networks_in
from planner.networks.families.members import readable_variant
from planner.networks.families.verify import needs_verifying, verify_variant
from planner.networks.keeping import NetworkReader
from planner.networks.records import Verification
from planner.networks.tuned import tuned_families
from planner.plan import Plan

Verified = Callable[[str, Verification], None]
"""Called with each network (digest) that was verified, and what was found."""


def verify_networks(
    store: Store, plan: Plan, verified: Verified = lambda network, found: None
) -> tuple[str, ...]:
    """Verify the plan's networks that need it (`needs_verifying`); their digests.

    One that passes runs from its family's build from the next binding on; one that does not is kept in full.
    Not within a `turn` of the store. Raises: StoreError.
    """
    reader = NetworkReader(store.objects, store.names)
    done = []
    for graph in networks_in({"": plan}):
        digest = Digest.parse(graph)
        variant = readable_variant(reader, digest)
        if variant is not None and needs_verifying(variant):
            verified(graph, verify_variant(store, digest))
            done.append(graph)
    return tuple(done)


def prove(store: Store, digest: Digest, plan: Plan) -> bool:
    """Find out how the networks of a plan may run; True if a binding made before does not know yet.

    Ways that were found for a network's family (`lightbox tune`) are tried on this plan's golden cases.
    """
    new = bool(verify_networks(store, plan))
    if not tuned_families(store) or not plan.golden:
        return new
    from planner.golden_runs import golden_runs
    from planner.networks.gating import gate_networks

    with ExitStack() as held:
        runs = cache(lambda: held.enter_context(golden_runs(store, plan)))
        return gate_networks(store, (digest, plan), tuple(networks_in({"": plan})), runs) or new

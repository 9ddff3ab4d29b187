"""Forget the faster ways that tuning found for a pipeline's networks here, and bind anew in plain fp32."""

from dataclasses import dataclass

from object_store.digest import Digest
from object_store.opening import Store
from planner.bind import bind
from planner.binding import Costing
from planner.execute import OperatorFrom, operator_of
from planner.live import compiled_plan, live_plans
from planner.machine import gates_id
from planner.names import gates_prefix, precision_name
from planner.networks.bind import networks_in
from planner.networks.families.members import variants
from planner.networks.tuned import tuned_family
from planner.turn import turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Untuned:
    """What was forgotten. binding: the one made without it.

    families: digests of the bases of the pipeline's families; ways: how many faster ways were known for them.
    pipelines: all that run a network of these families, sorted: each of them is back in plain fp32.
    """

    pipeline: str
    binding: str
    families: tuple[str, ...]
    ways: int
    pipelines: tuple[str, ...]


def untune(
    store: Store,
    pipeline: str,
    *,
    costing: Costing | None = None,
    operators: OperatorFrom = operator_of,
) -> Untuned:
    """Undo `tune` on machines like this one, for all families that the pipeline's live plans run.

    What was found belongs to a family, so its other members lose it too. Searches are forgotten with it, so
    that the next `tune` looks anew; what was found on other machine models stays. Takes a `turn`.
    Raises: UnknownPipeline, Unreadable, StoreError.
    """
    digest, _ = compiled_plan(store, pipeline)
    with turn(store):
        plans = live_plans(store, (digest,))
        users = networks_in(plans)
        family_of = {network: variant.family for network, variant in variants(store).items()}
        bases = {
            family_of[network]
            for network, digests in users.items()
            if network in family_of and any(plans[user].pipeline == pipeline for user in digests)
        }
        members = {network for network, base in family_of.items() if base in bases}
        ways = sum(_forget_ways(store, base) for base in bases)
        _forget_gates(store, {Digest.parse(network).sha256 for network in members})
        binding = bind(store, (digest,), costing=costing, operators=operators)
    affected = {plans[user].pipeline for network in members for user in users.get(network, ())}
    return Untuned(
        pipeline=pipeline,
        binding=str(binding),
        families=tuple(sorted(bases)),
        ways=ways,
        pipelines=tuple(sorted(affected)),
    )


def _forget_ways(store: Store, base: str) -> int:
    name = precision_name(gates_id(), Digest.parse(base).sha256)
    if store.names.get(name) is None:
        return 0
    tuned = tuned_family(store, base)
    store.names.delete(name)
    return len(tuned.ways) if tuned else 0


def _forget_gates(store: Store, networks: set[str]) -> None:
    """networks: sha256 of those whose results go, whatever plan they are of."""
    for name in store.names.items(gates_prefix(gates_id())):
        if name.rpartition("/")[2] in networks:
            store.names.delete(name)

"""Which plan a tenant runs under a pipeline's name; a running server follows these names."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from object_store.digest import Digest
from object_store.errors import NameUnknown
from object_store.opening import Store
from planner.bind import bind, cannot_compute
from planner.binding import Binding
from planner.errors import CannotCompute, NotChecked, NotPromoted, Unreadable
from planner.live import compiled_plan, current_binding
from planner.names import promoted_name
from planner.networks.joint import networks_of
from planner.networks.prove import prove
from planner.plan import Plan, stored_plan
from planner.turn import turn

Gate = Callable[[Digest, Plan], tuple[str, ...]]
"""Judges a plan by its golden cases: sentences about what failed, none if it passed."""

Prove = Callable[[Store, Digest, Plan], bool]
"""Finds out how a plan's networks may run; True if the binding is to be made anew."""

Binder = Callable[[Store, Iterable[Digest]], Digest]
"""Rebuilds the binding so that these plans are in it too."""

Hindrance = Callable[[Plan], str]
"""Why this version of Lightbox cannot compute a plan; empty if it can."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A tenant's name for a plan."""

    tenant: str
    pipeline: str
    plan: Digest
    since: datetime


def promote(
    store: Store,
    tenant: str,
    pipeline: str,
    *,
    gate: Gate | None = None,
    binder: Binder = bind,
    cannot: Hindrance = cannot_compute,
    prove: Prove = prove,
) -> Promotion:
    """Let the tenant run the plan last compiled of `pipeline`.

    First its networks are proven, then the golden cases are run as they will be served, under a binding with
    what was found. gate: None skips the golden cases. The plan is bound before it is named: a server never
    finds it unbound. Raises: UnknownPipeline, Unreadable, CannotCompute, NotChecked.
    """
    digest, plan = compiled_plan(store, pipeline)
    if why := cannot(plan):
        raise CannotCompute(pipeline, why)
    anew = prove(store, digest, plan)
    with turn(store):
        if anew:
            binder(store, (digest,))
        else:
            _bind_if_needed(store, digest, plan, binder)
    if gate is not None and (failures := gate(digest, plan)):
        raise NotChecked(pipeline, failures)
    with turn(store):
        _bind_if_needed(store, digest, plan, binder)
        store.names.set(promoted_name(tenant, pipeline), digest)
        return _promotion(store, tenant, pipeline)


def rollback(
    store: Store, tenant: str, pipeline: str, *, binder: Binder = bind, cannot: Hindrance = cannot_compute
) -> Promotion:
    """Let the tenant run the plan it ran before; again: the one before that.

    Raises: NotPromoted; NothingToRollBackTo; Unreadable, CannotCompute: that plan is of another version of
    Lightbox, and the tenant goes on with the present one.
    """
    name = promoted_name(tenant, pipeline)
    with turn(store):
        try:
            target = store.names.rollback_target(name)
        except NameUnknown as error:
            raise NotPromoted(tenant, pipeline) from error
        plan = stored_plan(store, target)
        if why := cannot(plan):
            raise CannotCompute(pipeline, why)
        _bind_if_needed(store, target, plan, binder)
        store.names.rollback(name)
        return _promotion(store, tenant, pipeline)


def _promotion(store: Store, tenant: str, pipeline: str) -> Promotion:
    present = store.names.history(promoted_name(tenant, pipeline))[-1]
    return Promotion(tenant, pipeline, present.digest, present.set_at)


def _bind_if_needed(store: Store, digest: Digest, plan: Plan, binder: Binder) -> None:
    """Bind anew where the binding does not know the plan, or may run its networks in ways by the gates of
    other plans alone, as those of a plan that nobody ran do not count."""
    try:
        bound = current_binding(store)
    except Unreadable:  # of another version of Lightbox
        bound = None
    if bound is None or str(digest) not in bound[1].plans or _has_ways(bound[1], plan):
        binder(store, (digest,))


def _has_ways(binding: Binding, plan: Plan) -> bool:
    """Whether faster ways of running one of its networks were found, used or not."""
    bound = (binding.networks.get(graph) for node in plan.nodes for graph in networks_of(node))
    return any(one and (len(one.choices) > 1 or one.refused or one.unjudged) for one in bound)

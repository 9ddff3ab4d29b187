"""Which plan a tenant runs under a pipeline's name; a running server follows these names."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from object_store.digest import Digest
from object_store.errors import NameUnknown
from object_store.opening import Store
from planner.compile import bind, cannot_compute, compiled_plan, current_binding
from planner.errors import CannotCompute, NotChecked, NotPromoted
from planner.names import promoted_name, promoted_prefix
from planner.plan import Plan, read_plan

Gate = Callable[[Digest, Plan], tuple[str, ...]]
"""Judges a plan by its golden cases: sentences about what failed, none if it passed."""

Binder = Callable[[Store, Iterable[Digest]], Digest]
"""Rebuilds the binding so that these plans are in it too."""


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
    cannot: Callable[[Plan], str] = cannot_compute,
) -> Promotion:
    """Let the tenant run the plan last compiled of `pipeline`.

    gate: None skips the golden cases. The plan is bound before it is named: a server never finds it unbound.
    Raises: UnknownPipeline, CannotCompute, NotChecked.
    """
    digest, plan = compiled_plan(store, pipeline)
    if why := cannot(plan):
        raise CannotCompute(pipeline, why)
    if gate is not None and (failures := gate(digest, plan)):
        raise NotChecked(pipeline, failures)
    _bind_if_needed(store, (digest,), binder)
    store.names.set(promoted_name(tenant, pipeline), digest)
    return _promotion(store, tenant, pipeline)


def rollback(store: Store, tenant: str, pipeline: str, *, binder: Binder = bind) -> Promotion:
    """Let the tenant run the plan it ran before; again: the one before that.

    Raises: NotPromoted; NothingToRollBackTo.
    """
    name = promoted_name(tenant, pipeline)
    _bind_if_needed(store, {record.digest for record in store.names.history(name)}, binder)
    try:
        store.names.rollback(name)
    except NameUnknown as error:
        raise NotPromoted(tenant, pipeline) from error
    return _promotion(store, tenant, pipeline)


def promotions(store: Store, tenant: str) -> tuple[Promotion, ...]:
    """What the tenant runs, by pipeline."""
    prefix = promoted_prefix(tenant)
    return tuple(_promotion(store, tenant, n.removeprefix(prefix)) for n in store.names.items(prefix))


def promoted_plan(store: Store, tenant: str, pipeline: str) -> tuple[Digest, Plan]:
    """The plan that the tenant runs under this name. Raises: NotPromoted."""
    digest = store.names.get(promoted_name(tenant, pipeline))
    if digest is None:
        raise NotPromoted(tenant, pipeline)
    return digest, read_plan(store.objects.get(digest))


def _promotion(store: Store, tenant: str, pipeline: str) -> Promotion:
    present = store.names.history(promoted_name(tenant, pipeline))[-1]
    return Promotion(tenant, pipeline, present.digest, present.set_at)


def _bind_if_needed(store: Store, plans: Iterable[Digest], binder: Binder) -> None:
    bound = current_binding(store)
    if unbound := {plan for plan in plans if bound is None or str(plan) not in bound[1].plans}:
        binder(store, unbound)

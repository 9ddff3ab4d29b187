"""What a store stands for now: its live plans, the plan of a pipeline, and the current binding."""

import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import msgspec

from object_store.digest import Digest
from object_store.local import LocalStore
from object_store.opening import Store
from planner.binding import Binding, stored_binding
from planner.errors import UnknownPipeline, Unreadable
from planner.names import BINDING, PLANS, TENANTS, plan_name
from planner.plan import Plan, read_plan, stored_plan

log = logging.getLogger(__name__)


def live_plans(store: Store, also: Iterable[Digest] = ()) -> dict[str, Plan]:
    """Plans by digest that a pipeline's or a tenant's name stands for now, and those in `also`.

    What cannot be read by this version of Lightbox is left out, and logged.
    """
    named = {*store.names.items(PLANS).values(), *store.names.items(TENANTS).values(), *also}
    plans = {}
    for digest in sorted(named):
        try:
            plans[str(digest)] = _plan(store.objects.root, digest)
        except Unreadable as error:
            log.warning("left out of the binding: %s", error)
    return plans


def served_plans(store: Store) -> frozenset[str]:
    """Digests of the plans that tenants run now."""
    return frozenset(map(str, store.names.items(TENANTS).values()))


@lru_cache(maxsize=4096)
def _plan(store: Path, digest: Digest) -> Plan:
    """A plan never changes, so this process reads and checks it once."""
    try:
        return read_plan(LocalStore(store, verify_on_read=True).get(digest))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(str(digest), str(error)) from error


def current_binding(store: Store) -> tuple[Digest, Binding] | None:
    """The binding that new jobs begin with; None if nothing was compiled yet. Raises: Unreadable."""
    digest = store.names.get(BINDING)
    return None if digest is None else (digest, stored_binding(store, digest))


def compiled_plan(store: Store, pipeline: str) -> tuple[Digest, Plan]:
    """The plan last compiled under this name. Raises: UnknownPipeline, Unreadable."""
    digest = store.names.get(plan_name(pipeline))
    if digest is None:
        raise UnknownPipeline(pipeline)
    return digest, stored_plan(store, digest)

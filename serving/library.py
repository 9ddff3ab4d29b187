"""What is promoted for whom, and the plans and bindings behind it; follows the store as it changes."""

import logging
from dataclasses import dataclass
from functools import lru_cache

from object_store.digest import Digest
from object_store.errors import StoreError
from object_store.opening import Store
from planner.binding import Binding, read_binding
from planner.names import BINDING, promoted_prefix
from planner.plan import Plan, read_plan

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A tenant's name for a plan, now."""

    pipeline: str
    plan: str


class Library:
    """Reads plans and bindings from the store. `refresh` is cheap when nothing has changed."""

    def __init__(self, store: Store, tenants: tuple[str, ...]) -> None:
        self._store, self._tenants = store, tenants
        self._sequence = -1
        self._promotions: dict[str, tuple[Promotion, ...]] = {}
        self._binding: str | None = None
        self.plan = lru_cache(maxsize=256)(self._read_plan)
        self.binding = lru_cache(maxsize=16)(self._read_binding)

    def refresh(self) -> bool:
        """Look at the store's names again; True if anything had changed since the last look."""
        sequence = self._store.names.sequence()
        if sequence == self._sequence:
            return False
        binding = self._store.names.get(BINDING)
        self._binding = str(binding) if binding is not None else None
        for tenant in self._tenants:
            named = self._store.names.items(promoted_prefix(tenant))
            self._promotions[tenant] = tuple(
                Promotion(name.removeprefix(promoted_prefix(tenant)), str(digest))
                for name, digest in sorted(named.items())
            )
        self._sequence = sequence
        return True

    def promotions(self, tenant: str) -> tuple[Promotion, ...]:
        return self._promotions.get(tenant, ())

    @property
    def current_binding(self) -> str | None:
        """The digest of the binding that new jobs begin with."""
        return self._binding

    def promoted_plans(self) -> tuple[Plan, ...]:
        """Every plan that any tenant may ask for; unreadable ones are left out and logged."""
        plans = []
        for digest in sorted({p.plan for promotions in self._promotions.values() for p in promotions}):
            try:
                plans.append(self.plan(digest))
            except StoreError as error:
                log.error("plan %s cannot be read: %s", digest, error)
        return tuple(plans)

    def _read_plan(self, digest: str) -> Plan:
        return read_plan(self._store.objects.get(Digest.parse(digest)))

    def _read_binding(self, digest: str) -> Binding:
        return read_binding(self._store.objects.get(Digest.parse(digest)))

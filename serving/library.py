"""What is promoted for whom, and the plans and bindings behind it; follows the store as it changes."""

import logging
from dataclasses import dataclass
from functools import lru_cache

from object_store.digest import Digest
from object_store.errors import ObjectCorrupt, ObjectMissing, StoreError
from object_store.opening import Store
from planner.binding import Binding, stored_binding
from planner.errors import Unreadable
from planner.names import BINDING, promoted_prefix
from planner.plan import Plan, stored_plan
from planner.ways import fallbacks

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A tenant's name for a plan, now."""

    pipeline: str
    plan: str


class Library:
    """Reads plans and bindings from the store. `refresh` is cheap when nothing has changed.

    `plan` and `binding` read one by its digest. Raises: StoreError, also (planner.errors.Unreadable) for one
    that another version of Lightbox wrote.
    """

    def __init__(self, store: Store, tenants: tuple[str, ...]) -> None:
        self._store, self._tenants = store, tenants
        self._sequence = -1
        self._promotions: dict[str, tuple[Promotion, ...]] = {}
        self._binding: str | None = None
        self.plan = lru_cache(maxsize=256)(self._read_plan)
        self.binding = lru_cache(maxsize=16)(self._read_binding)

    def refresh(self) -> bool:
        """Look at the store's names again; True if anything had changed since the last look.

        Raises: StoreError if the store cannot be looked at; then everything is as it was.
        """
        sequence = self._store.names.sequence()
        if sequence == self._sequence:
            return False
        binding = self._readable_binding()
        if binding is not None and binding != self._binding:
            for sentence in fallbacks(self.binding(binding)):
                log.warning("binding %s: %s", binding, sentence)
        promotions = {tenant: self._promoted(tenant) for tenant in self._tenants}
        self._sequence, self._binding, self._promotions = sequence, binding, promotions
        return True

    def promotions(self, tenant: str) -> tuple[Promotion, ...]:
        return self._promotions.get(tenant, ())

    @property
    def current_binding(self) -> str | None:
        """The digest of the binding that new jobs begin with; None while there is none that can be read."""
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

    def _promoted(self, tenant: str) -> tuple[Promotion, ...]:
        named = self._store.names.items(promoted_prefix(tenant))
        return tuple(
            Promotion(name.removeprefix(promoted_prefix(tenant)), str(digest))
            for name, digest in sorted(named.items())
        )

    def _readable_binding(self) -> str | None:
        digest = self._store.names.get(BINDING)
        if digest is None:
            return None
        try:
            self.binding(str(digest))
        except (ObjectMissing, ObjectCorrupt, Unreadable) as error:
            log.error(
                "the binding cannot be read, and no job can begin until pipelines are compiled: %s", error
            )
            return None
        return str(digest)

    def _read_plan(self, digest: str) -> Plan:
        return stored_plan(self._store, Digest.parse(digest))

    def _read_binding(self, digest: str) -> Binding:
        return stored_binding(self._store, Digest.parse(digest))

"""The resources of a worker process under each binding that its jobs began with."""

from functools import lru_cache
from pathlib import Path

import msgspec

from models.operators.base import Resources
from object_store.digest import Digest
from object_store.local import LocalStore
from planner.binding import read_binding
from planner.resources import StoreResources

BINDINGS = 2
"""Whose sessions are kept: the one that new jobs begin with, and that of the jobs before it. A job under an
older one builds again what these do not name."""


class WorkerResources:
    """Sessions are shared by all bindings; each binding says which of them a network runs on."""

    def __init__(self, store: Path) -> None:
        self.shared = StoreResources(store, threads=1)
        self._objects = LocalStore(store, verify_on_read=True)
        self.under = lru_cache(maxsize=BINDINGS)(self._under)
        """(binding digest, or "" for none) -> Resources. Raises: StoreError, msgspec.DecodeError."""

    def _under(self, binding: str) -> Resources:
        if not binding:
            return self.shared
        bound = read_binding(self._objects.get(Digest.parse(binding)))
        # Stages are the scheduler's affair; with thousands of plans they are most of a binding.
        return self.shared.under(msgspec.structs.replace(bound, plans={}, stages=()))

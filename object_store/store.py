"""What every object store can do. Caching, limits and metrics are wrappers with the same three verbs."""

from collections.abc import Iterable
from typing import Protocol

from object_store.digest import BytesLike, Digest


class ObjectStore(Protocol):
    """Immutable bytes, named by what they are. Nothing is ever changed in place."""

    def put(self, data: BytesLike) -> Digest:
        """Keep `data`, which must not change meanwhile. Once this returns, it survives a power cut.

        Storing it twice costs no space; the second time also protects it from garbage collection anew.
        Raises: StoreFull, StoreUnavailable.
        """

    def get(self, digest: Digest) -> bytes:
        """The bytes that `digest` names. Raises: ObjectMissing, ObjectCorrupt, StoreUnavailable."""

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Those of `digests` that have to be put before they can be got.

        The others are protected from garbage collection as if they had been put now, so that
        "put what is missing, then name it" is safe.
        """

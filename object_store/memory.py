"""A store in memory, for tests and dry runs: forgets everything when the process ends."""

from collections.abc import Iterable

from object_store.digest import BytesLike, Digest
from object_store.errors import ObjectMissing


class MemoryStore:
    """See `ObjectStore`, except that nothing survives a power cut."""

    def __init__(self) -> None:
        self._objects: dict[Digest, bytes] = {}

    def put(self, data: BytesLike) -> Digest:
        kept = bytes(data)
        digest = Digest.of(kept)
        self._objects.setdefault(digest, kept)
        return digest

    def get(self, digest: Digest) -> bytes:
        try:
            return self._objects[digest]
        except KeyError:
            raise ObjectMissing(digest) from None

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        return frozenset(digests) - self._objects.keys()

"""The name of immutable bytes: their SHA-256 and their size."""

import hashlib
import mmap
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeAlias

from object_store.errors import DigestInvalid

BytesLike: TypeAlias = bytes | bytearray | memoryview | mmap.mmap

_TEXT = re.compile(r"sha256:([0-9a-f]{64}):(0|[1-9][0-9]{0,18})")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """What bytes are called. Two digests are equal exactly when their texts are.

    The size is part of the name: a reader can plan memory before it reads, and sees a truncated object
    without hashing it.
    """

    sha256: str
    """64 lowercase hexadecimal digits."""
    size: int
    """Bytes."""

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.sha256) or not 0 <= self.size < 1 << 63:
            raise DigestInvalid(str(self))

    def __str__(self) -> str:
        return f"sha256:{self.sha256}:{self.size}"

    @classmethod
    @lru_cache(maxsize=16384)  # the names of a store are parsed again and again
    def parse(cls, text: str) -> Self:
        """The digest whose `str` is `text`, to the letter. Raises: DigestInvalid."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise DigestInvalid(text)
        return cls(found[1], int(found[2]))

    @classmethod
    def of(cls, data: BytesLike) -> Self:
        """The digest of `data`, which must be contiguous in memory; an array counts as its bytes."""
        view = flat(data)
        return cls(hashlib.sha256(view).hexdigest(), view.nbytes)


def flat(data: BytesLike) -> memoryview:
    """`data` as a view of single bytes, without copying. Raises: TypeError if it is not C-contiguous."""
    view = memoryview(data)
    return view.cast("B") if view.nbytes else memoryview(b"")  # an empty shape cannot be cast

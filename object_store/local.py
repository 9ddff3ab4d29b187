"""Objects in a local directory: one read-only file each, named by its digest.

- `<root>/objects/<first 2 hex digits>/<sha256>-<size>`
- `<root>/incoming/`: files being written; what a dead writer leaves here is removed by gc
- `<root>/lock`: flock, shared while putting, exclusive while gc deletes; reading needs no lock

Why so: docs/adr/0001-object-store.md.
"""

import hashlib
import mmap
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from object_store.digest import BytesLike, Digest, flat
from object_store.durable import (
    locked,
    make_directories,
    publish,
    refresh,
    sync_directory,
    temporary_file,
    write_all,
)
from object_store.errors import ObjectCorrupt, ObjectMissing, StoreFull, StoreUnavailable, disk_errors

_FILE_NAME = re.compile(r"([0-9a-f]{64})-(0|[1-9][0-9]{0,17})")
_CHUNK_BYTES = 1 << 20  # large enough that hashing, not calling, is the cost; a guess


class LocalStore:
    """See `ObjectStore`. Threads and processes may share one directory; opening it touches nothing.

    With `verify_on_read`, every read is hashed (about 2 GB/s with SHA extensions), and a put over a damaged
    object of the right size heals it. Without, only a wrong size is noticed, by readers and by `put`.
    """

    def __init__(self, root: Path, *, verify_on_read: bool = False) -> None:
        self.root = root
        self._verify_on_read = verify_on_read
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        self._known_durable: set[Path] = set()

    # -- writing ---------------------------------------------------------------------------------------

    def put(self, data: BytesLike) -> Digest:
        """See `ObjectStore.put`."""
        view = flat(data)
        digest = Digest.of(view)
        with disk_errors(self.root), self._locked(exclusive=False):
            if not self._keep_existing(digest):
                with temporary_file(self._incoming) as (descriptor, temporary):
                    write_all(descriptor, view)
                    publish(descriptor, temporary, self._place_for(digest))
        return digest

    def put_file(self, path: Path) -> Digest:
        """Keep the content of the file `path`, of any size, in constant memory; as durable as `put`.

        Raises: OSError if `path` cannot be opened; else as `put`.
        """
        with (
            path.open("rb") as source,
            disk_errors(self.root),
            self._locked(exclusive=False),
            temporary_file(self._incoming) as (descriptor, temporary),
        ):
            hasher, size = hashlib.sha256(), 0
            while chunk := source.read(_CHUNK_BYTES):
                write_all(descriptor, memoryview(chunk))
                hasher.update(chunk)
                size += len(chunk)
            digest = Digest(hasher.hexdigest(), size)  # of what was written, even if the file is changing
            if not self._keep_existing(digest):
                publish(descriptor, temporary, self._place_for(digest))
        return digest

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, digest: Digest) -> bytes:
        """See `ObjectStore.get`. Copies; for large objects `map` does not."""
        with self._opened(digest) as descriptor:
            with disk_errors(self.root), open(descriptor, "rb", closefd=False) as file:
                data = file.read()
            self._check(digest, data)
            return data

    def map(self, digest: Digest) -> memoryview:
        """The bytes of `digest` as a read-only view of the file: pages are read when touched, shared by all.

        The view stays valid when the object is deleted meanwhile. Before Python 3.13 each live view holds a
        file descriptor. Raises: as `get`.
        """
        if digest.size == 0:  # cannot be mapped
            return memoryview(self.get(digest))
        with self._opened(digest) as descriptor:
            with disk_errors(self.root):
                if sys.version_info >= (3, 13):
                    mapped = mmap.mmap(descriptor, digest.size, access=mmap.ACCESS_READ, trackfd=False)
                else:
                    mapped = mmap.mmap(descriptor, digest.size, access=mmap.ACCESS_READ)
            view = memoryview(mapped)
            self._check(digest, view)
            return view

    def check(self, digest: Digest) -> None:
        """Read and hash the object from disk, in constant memory. Raises: as `get`."""
        with self._opened(digest) as descriptor, disk_errors(self.root):
            hasher = hashlib.sha256()
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                hasher.update(chunk)
        if hasher.hexdigest() != digest.sha256:
            raise ObjectCorrupt(digest)

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """See `ObjectStore.missing`. A truncated object counts as missing.

        In a directory that we may only read, nothing is protected: we could not put there either.
        """
        asked = frozenset(digests)
        present = [digest for digest in asked if digest in self]
        if present:  # a question must not create a store
            with suppress(StoreUnavailable, StoreFull), disk_errors(self.root), self._locked(exclusive=False):
                for digest in present:
                    with suppress(FileNotFoundError):  # deleted since we looked
                        os.utime(self._path(digest))
        return asked.difference(digest for digest in present if digest in self)

    def __contains__(self, digest: Digest) -> bool:
        """Whether an object of this digest lies here in full length. Protects nothing, hashes nothing."""
        with disk_errors(self.root):
            return self._size(digest) == digest.size

    def __iter__(self) -> Iterator[Digest]:
        """The digests of all objects, damaged ones too, in ascending order. Other files are passed over."""
        for prefix in self._listed(self._objects):
            for name in self._listed(self._objects / prefix):
                if (match := _FILE_NAME.fullmatch(name)) and match[1].startswith(prefix):
                    yield Digest(match[1], int(match[2]))

    # -- deleting: for `collect` only ------------------------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every `put` and `missing`, in every process, waiting. Reading goes on. Not reentrant."""
        with disk_errors(self.root), self._locked(exclusive=True):
            yield

    def unused_since(self, digest: Digest, moment_s: float) -> bool:
        """Whether the object is here and nobody has put it, or asked `missing` for it, since.

        Args:
            moment_s: seconds since the epoch, by the clock that the file system uses.
        """
        with disk_errors(self.root):
            try:
                return self._path(digest).stat().st_mtime < moment_s
            except FileNotFoundError:
                return False

    def discard(self, digests: Iterable[Digest], *, unused_since_s: float) -> list[Digest]:
        """Delete those objects that were `unused_since` then; only under `exclusive`. Returns the deleted."""
        unused = [digest for digest in digests if self.unused_since(digest, unused_since_s)]
        with disk_errors(self.root):
            for digest in unused:
                self._path(digest).unlink(missing_ok=True)
        return unused

    def discard_incoming(self) -> int:
        """Remove half-written files; only under `exclusive`, when all of them belong to the dead."""
        with disk_errors(self.root):
            names = self._listed(self._incoming)
            for name in names:
                (self._incoming / name).unlink(missing_ok=True)
        return len(names)

    # -- inside ----------------------------------------------------------------------------------------

    def _path(self, digest: Digest) -> Path:
        return self._objects.joinpath(digest.sha256[:2], f"{digest.sha256}-{digest.size}")

    def _size(self, digest: Digest) -> int | None:
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def _keep_existing(self, digest: Digest) -> bool:
        """Protect the object from gc anew if it is here and whole; False if it must be written."""
        if digest not in self:
            return False
        if self._verify_on_read:
            try:
                self.check(digest)
            except ObjectCorrupt:
                return False
        refresh(self._path(digest))
        return True

    def _place_for(self, digest: Digest) -> Path:
        path = self._path(digest)
        self._make_durable(self._objects)
        self._make_durable(path.parent)
        return path

    def _make_durable(self, directory: Path) -> None:
        """Once per process, even if it exists: the process that made it may not have synced it yet."""
        if directory not in self._known_durable:
            directory.mkdir(exist_ok=True)
            sync_directory(directory.parent)
            self._known_durable.add(directory)

    @contextmanager
    def _locked(self, *, exclusive: bool) -> Iterator[None]:
        make_directories(self._incoming)
        with locked(self.root / "lock", exclusive=exclusive):
            yield

    @contextmanager
    def _opened(self, digest: Digest) -> Iterator[int]:
        """A descriptor of the object, whose size is right."""
        try:
            with disk_errors(self.root):
                descriptor = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ObjectMissing(digest) from None
            raise
        try:
            if os.fstat(descriptor).st_size != digest.size:
                raise ObjectCorrupt(digest)
            yield descriptor
        finally:
            os.close(descriptor)

    def _check(self, digest: Digest, data: BytesLike) -> None:
        if self._verify_on_read and Digest.of(data) != digest:
            raise ObjectCorrupt(digest)

    def _listed(self, directory: Path) -> list[str]:
        with disk_errors(self.root):
            try:
                return sorted(os.listdir(directory))
            except (FileNotFoundError, NotADirectoryError):
                return []

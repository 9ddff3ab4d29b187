"""The durable spool: what was received, byte for byte, as DICOM files that survive a power cut.

`<root>/<tenant>/<association>-<k>/<n>.dcm`: names carry no patient data, and one folder takes what came
together, so that one sync of the folder serves many files. A file appears under its final name complete or
not at all (temporary name, fsync, rename, fsync of the folder; measured on ext4 for 512 KiB: 0.70 ms, of
which the file's own fsync is 0.43 and writing 0.14). What no journal knows is left from a crash: `sweep`.
"""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from object_store.durable import make_directories, sync_directory
from serving.errors import NoCapacity, RequestError, TooLarge

FILES_PER_FOLDER = 4096
"""An association may last for months; a folder should not. A guess."""
_BUFFER_BYTES = 1 << 18
"""Gathered before a write: fewer calls, each of which lets go of the interpreter lock."""
_LOOK_BYTES = 1 << 24
"""How much of one object is written between two looks at the free disk: 64 associations together write less
than the 1 GiB that is kept free by default."""
_UNFINISHED = ".part"


class SpooledFile(NamedTuple):
    """A file of the spool."""

    path: Path
    digest: str
    """sha256:<hex>:<size>"""
    size: int


class Incoming:
    """One file being received. `finish` makes it durable, `discard` leaves nothing of it."""

    def __init__(self, folder: "SpoolFolder", path: Path) -> None:
        self._folder = folder
        self._path = path
        self._temporary = path.with_suffix(_UNFINISHED)
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._unlooked = 0
        self.size = 0
        with _disk_errors():
            self._file = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises: NoCapacity if too little disk is left; TooLarge."""
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= _BUFFER_BYTES:
            self._flush()

    def fileno(self) -> int:
        """For reading what was written so far."""
        self._flush()
        return self._file

    def finish(self, *, sync_folder: bool = True) -> SpooledFile:
        """Make it durable under its final name.

        Args:
            sync_folder: if False, the name is durable only after `SpoolFolder.sync`.

        Raises: NoCapacity, TooLarge; nothing is left then.
        """
        try:
            self._flush()
            with _disk_errors():
                os.fsync(self._file)
                os.rename(self._temporary, self._path)
                if sync_folder:
                    self._folder.sync()
        except RequestError:
            self.discard()
            raise
        self._close()
        return SpooledFile(self._path, f"sha256:{self._hash.hexdigest()}:{self.size}", self.size)

    def discard(self) -> None:
        """Forget it. May be called at any time, also after `finish` (then the finished file is kept)."""
        if self._file >= 0:
            self._close()
            self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._buffer:
            return
        self._unlooked += len(self._buffer)
        if self._unlooked > _LOOK_BYTES:
            self._unlooked = 0
            self._folder.spool.check_free()
        self._folder.spool.check_size(self.size)
        self._hash.update(self._buffer)
        with memoryview(self._buffer) as rest, _disk_errors():
            written = 0
            while written < len(rest):
                written += os.write(self._file, rest[written:])
        self._buffer.clear()

    def _close(self) -> None:
        file, self._file = self._file, -1
        os.close(file)


class SpoolFolder:
    """The files of one association; used by one thread at a time."""

    def __init__(self, spool: "Spool", tenant: str, association: str) -> None:
        self.spool = spool
        self.tenant = tenant
        self.association = association
        self._parent = spool.root / tenant
        self._files = 0
        self._folder: Path | None = None
        self._fd = -1

    def begin(self) -> Incoming:
        """A new file. Raises: NoCapacity if less is free than the configuration wants kept."""
        self.spool.check_free()
        if self._folder is None or self._files % FILES_PER_FOLDER == 0:
            self._folder = self._next_folder()
        self._files += 1
        return Incoming(self, self._folder / f"{self._files}.dcm")

    def sync(self) -> None:
        """Make the names of all finished files durable. Raises: NoCapacity."""
        with _disk_errors():
            if self._fd >= 0:
                os.fsync(self._fd)

    def close(self) -> None:
        """No more files; an empty folder goes."""
        self._close()
        if self._folder is not None:
            _remove_if_empty(self._folder)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1  # first: its number may be another file's as soon as it is closed
        if fd >= 0:
            os.close(fd)

    def _next_folder(self) -> Path:
        self.sync()  # files of the folder that is left may be waiting for it
        self._close()
        folder = self._parent / f"{self.association}-{self._files // FILES_PER_FOLDER}"
        with _disk_errors():
            self.spool.make_durable(self._parent)
            folder.mkdir(exist_ok=True)  # an attempt before this one may have got no further
            sync_directory(self._parent)
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return folder


class Spool:
    """The spool of one data folder; several processes may write to it."""

    def __init__(self, root: Path, *, min_free_bytes: int, max_object_bytes: int | None = None) -> None:
        self.root = root
        self._min_free_bytes = min_free_bytes
        self._max_object_bytes = max_object_bytes
        self._known_durable: set[Path] = set()
        make_directories(root.parent)
        self.make_durable(root)

    def folder(self, tenant: str, association: str) -> SpoolFolder:
        """Where the files of one association (or request) go; made on its first file."""
        return SpoolFolder(self, tenant, association)

    def check_free(self) -> None:
        """Raises: NoCapacity if less disk is free than the configuration wants kept."""
        disk = os.statvfs(self.root)
        if disk.f_bavail * disk.f_frsize < self._min_free_bytes:
            raise NoCapacity(f"Less than {self._min_free_bytes} bytes of disk are free.")

    def check_size(self, size: int) -> None:
        """Raises: TooLarge if the configuration allows no object of so many bytes."""
        if self._max_object_bytes is not None and size > self._max_object_bytes:
            raise TooLarge(f"An object may have {self._max_object_bytes} bytes at most.")

    def make_durable(self, folder: Path) -> None:
        """Make it and its name, once: also if it exists, for whoever made it may not have synced it yet."""
        if folder not in self._known_durable:
            folder.mkdir(exist_ok=True)
            sync_directory(folder.parent)
            self._known_durable.add(folder)

    def sweep(self, is_known: Callable[[Path], bool]) -> int:
        """Clear away what a crash left. Before anybody writes.

        Unfinished files go. Finished ones that no journal knows were never acknowledged; they are moved to
        a folder `-unclaimed` beside this one, not removed: a journal may have been lost or restored.

        Returns: how many files were moved there.
        """
        unclaimed = self.root.parent / f"{self.root.name}-unclaimed"
        moved = 0
        for folder in list(self.root.glob("*/*")):
            for file in list(folder.iterdir()):
                if file.suffix == _UNFINISHED:
                    file.unlink()
                elif not is_known(file):
                    unclaimed.mkdir(exist_ok=True)
                    file.rename(unclaimed / f"{folder.parent.name}-{folder.name}-{file.name}")
                    moved += 1
            _remove_if_empty(folder)
        return moved


def new_association() -> str:
    """A name for an association or a request: random, and all that logs and folders say of it."""
    return uuid.uuid4().hex


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # not empty, or gone already


class _disk_errors:  # noqa: N801 - reads as the statement it is
    """Turns the disk's refusals into ours; paths stay out of the message."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise NoCapacity(f"The spool cannot be written: {error.strerror}.") from error

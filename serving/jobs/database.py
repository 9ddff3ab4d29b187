"""SQLite behind two threads: one that writes in group commits, one that reads. WAL, synchronous=FULL.

A write is a function of the connection; all that wait when the writer comes round are one transaction and
one fsync. Once `write` returns, what it wrote survives a power cut.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_SCHEMA = Path(__file__).with_name("schema.sql")
_SCHEMA_VERSION = 1


class JournalError(Exception):
    """The journal cannot be opened or written."""


class Database:
    """Owns the database file; one process at a time. Close it to let the last writes through."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: queue.SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], Future[Any]] | None]
        self._pending = queue.SimpleQueue()
        self._writer_connection = _open(path)
        self._writer = threading.Thread(target=self._write_loop, name="journal-writer", daemon=True)
        self._reader_connection = _open(path)
        self._reader_connection.execute("PRAGMA query_only = ON")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")
        self._writer.start()

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run `change` in the next group commit. Raises what it raises (alone: others are not affected)."""
        future: Future[T] = Future()
        self._pending.put((change, future))
        return await asyncio.wrap_future(future)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on the reading connection; it sees everything committed before."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, query, self._reader_connection)

    def close(self) -> None:
        """Commit what waits and close. Blocks."""
        self._pending.put(None)
        self._writer.join()
        self._reader.shutdown()
        self._reader_connection.close()
        self._writer_connection.close()

    def _write_loop(self) -> None:
        while True:
            batch = [self._pending.get()]
            while not self._pending.empty():
                batch.append(self._pending.get())
            work = [item for item in batch if item is not None and item[1].set_running_or_notify_cancel()]
            if work:
                self._commit(work)
            if None in batch:
                return

    def _commit(self, work: list[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]]) -> None:
        connection = self._writer_connection
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for change, future in work:
                connection.execute("SAVEPOINT change")
                try:
                    outcomes.append((future, change(connection), None))
                except Exception as error:  # any change may fail; the caller is told, the others go on
                    connection.execute("ROLLBACK TO change")
                    outcomes.append((future, None, error))
                connection.execute("RELEASE change")
            connection.execute("COMMIT")
        except sqlite3.Error as error:  # disk full, for one: nothing of this batch was kept
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = JournalError(f"the journal could not be written: {error}")
            outcomes = [(future, None, failure) for _, future in work]
        for future, result, failed in outcomes:
            if failed is not None:
                future.set_exception(failed)
            else:
                future.set_result(result)


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA busy_timeout = 5000")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            schema = _SCHEMA.read_text(encoding="utf-8")
            connection.executescript(f"BEGIN;\n{schema}\nPRAGMA user_version = {_SCHEMA_VERSION};\nCOMMIT;")
        elif version != _SCHEMA_VERSION:
            raise JournalError(f"{path}: journal version {version}, this Lightbox reads {_SCHEMA_VERSION}")
    except sqlite3.Error as error:
        raise JournalError(f"{path}: {error}") from error
    return connection

"""Names and tags: the only things in a store that change. SQLite, several processes at once."""

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from object_store.digest import Digest
from object_store.errors import NameUnknown, NothingToRollBackTo, database_errors, disk_errors
from object_store.schema import connect

_NEWEST = "SELECT id, digest, previous FROM history WHERE name = ? ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class NameRecord:
    """What a name stood for, and since when (UTC)."""

    digest: Digest
    set_at: datetime


class Names:
    """What names stand for now and stood for before. A change that returned survives a power cut.

    Setting a name does not look whether the object exists: put the object first (or ask `missing` for it),
    then name it, within gc's grace period. Every method may raise StoreUnavailable or StoreFull.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._turn = threading.Lock()
        with disk_errors(path), database_errors(path):
            self._connection = connect(path)

    def close(self) -> None:
        with self._turn:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- names -----------------------------------------------------------------------------------------

    def get(self, name: str) -> Digest | None:
        """What `name` stands for, or None."""
        rows = self._read(_NEWEST, name)
        return Digest.parse(rows[0][1]) if rows else None

    def items(self, prefix: str = "") -> dict[str, Digest]:
        """All names that begin with `prefix`, in ascending order, with what they stand for."""
        rows = self._read(  # beside max(id) SQLite gives the other columns of that very row
            "SELECT name, digest, max(id) FROM history WHERE name >= ? AND name < ? "
            "GROUP BY name ORDER BY name",
            prefix,
            _behind(prefix),
        )
        return {name: Digest.parse(digest) for name, digest, _ in rows if name.startswith(prefix)}

    def set(self, name: str, digest: Digest) -> None:
        """Let `name` stand for `digest`. Setting what it stands for already changes nothing."""
        self.set_all({name: digest})

    def set_all(self, digests: Mapping[str, Digest]) -> None:
        """Let every name stand for its digest, as `set` would; all of them or, where it fails, none."""
        with self._change() as connection:
            for name, digest in digests.items():
                now = connection.execute(_NEWEST, (name,)).fetchone()
                if now is None or now[1] != str(digest):
                    self._append(connection, name, str(digest), previous=now[0] if now else None)

    def rollback(self, name: str) -> Digest:
        """Let `name` stand for the previous distinct digest; a second rollback goes one further back.

        It is a change like any other: the history grows by one record, nothing in it is rewritten.
        Raises: NameUnknown, NothingToRollBackTo.
        """
        with self._change() as connection:
            now = connection.execute(_NEWEST, (name,)).fetchone()
            if now is None:
                raise NameUnknown(name)
            target = connection.execute(
                "SELECT digest, previous FROM history WHERE id = ?", (now[2],)
            ).fetchone()
            if target is None:
                raise NothingToRollBackTo(name)
            self._append(connection, name, target[0], previous=target[1])
        return Digest.parse(target[0])

    def rollback_target(self, name: str) -> Digest:
        """What `rollback` would let `name` stand for now. Raises: NameUnknown, NothingToRollBackTo."""
        rows = self._read(
            "SELECT before.digest FROM history now LEFT JOIN history before ON before.id = now.previous "
            "WHERE now.name = ? ORDER BY now.id DESC LIMIT 1",
            name,
        )
        if not rows:
            raise NameUnknown(name)
        if rows[0][0] is None:
            raise NothingToRollBackTo(name)
        return Digest.parse(rows[0][0])

    def history(self, name: str) -> list[NameRecord]:
        """What `name` stood for, oldest first; the last record is the present. Empty if unknown."""
        rows = self._read("SELECT digest, set_at_s FROM history WHERE name = ? ORDER BY id", name)
        return [NameRecord(Digest.parse(digest), datetime.fromtimestamp(at, UTC)) for digest, at in rows]

    def delete(self, name: str) -> None:
        """Forget `name` and its history. Raises: NameUnknown."""
        with self._change() as connection:
            if connection.execute("DELETE FROM history WHERE name = ?", (name,)).rowcount == 0:
                raise NameUnknown(name)

    def roots(self, without: Collection[str] = ()) -> frozenset[Digest]:
        """Every digest that a name stands for or can be rolled back to: what gc must keep.

        without: names that are passed over, as if they had been deleted.
        """
        rows = self._read("SELECT DISTINCT digest, name FROM history")
        return frozenset(Digest.parse(digest) for digest, name in rows if name not in without)

    def shorten_history(self, keep: int) -> int:
        """Forget all but the newest `keep` (at least 1) records of each name; returns how many."""
        with self._change() as connection:
            return connection.execute(
                "DELETE FROM history WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER "
                "(PARTITION BY name ORDER BY id DESC) AS age FROM history) WHERE age > ?)",
                (max(keep, 1),),
            ).rowcount

    # -- tags ------------------------------------------------------------------------------------------

    def tag(self, digest: Digest, key: str, value: str) -> None:
        """Note `key` = `value` beside an object, in place of what `key` was. A tag keeps nothing from gc."""
        with self._change() as connection:
            connection.execute(
                "INSERT INTO tags VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value "
                "WHERE value != excluded.value",
                (str(digest), key, value),
            )

    def tags(self, digest: Digest) -> dict[str, str]:
        """All tags of an object by key, in ascending order of the keys."""
        return dict(self._read("SELECT key, value FROM tags WHERE digest = ? ORDER BY key", str(digest)))

    def tagged(self, key: str) -> dict[Digest, str]:
        """All objects that have the tag `key`, with its value."""
        rows = self._read("SELECT digest, value FROM tags WHERE key = ? ORDER BY digest", key)
        return {Digest.parse(digest): value for digest, value in rows}

    def forget_tags(self, digests: Iterable[Digest]) -> None:
        """Remove every tag of these objects."""
        with self._change() as connection:
            connection.executemany("DELETE FROM tags WHERE digest = ?", [(str(d),) for d in digests])

    # -- changes ---------------------------------------------------------------------------------------

    def sequence(self) -> int:
        """A number that grows with every change, by any process. Reading it takes microseconds: poll it."""
        return int(self._read("SELECT changes FROM sequence")[0][0])

    def _append(
        self, connection: sqlite3.Connection, name: str, digest: str, *, previous: int | None
    ) -> None:
        connection.execute(
            "INSERT INTO history (name, digest, set_at_s, previous) VALUES (?, ?, ?, ?)",
            (name, digest, self._clock(), previous),
        )

    def _read(self, query: str, *values: str | bytes) -> list[tuple[Any, ...]]:
        with self._turn, database_errors(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone among all processes; counts in `sequence` if it changed a row."""
        with self._turn, database_errors(self.path):
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                before = connection.total_changes
                yield connection
                if connection.total_changes != before:
                    connection.execute("UPDATE sequence SET changes = changes + 1")
                connection.execute("COMMIT")
            except BaseException:  # an interrupt as well: nothing of a transaction may stay open
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def _behind(prefix: str) -> str | bytes:
    """What SQLite sorts behind every text that begins with `prefix`, and as little else as possible."""
    last = ord(prefix[-1]) if prefix else 0x10FFFF
    # Any blob comes behind every text; the code points from D800 on are no characters.
    return b"" if last == 0x10FFFF else prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)

"""The tables of names and tags, and how a connection to them is opened."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from object_store.durable import locked, make_directories
from object_store.errors import StoreUnavailable

VERSION = 1
"""As the last line of the tables says."""
BUSY_TIMEOUT_S = 10.0
"""How long to wait for another process's change. A change takes a millisecond; a guess with room."""

_TABLES = """
BEGIN;
CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    set_at_s REAL NOT NULL,      -- seconds since the epoch
    previous INTEGER             -- the record that a rollback goes back to, or NULL
);                               -- a name stands for the digest of its newest record
CREATE INDEX history_by_name ON history (name, id);
CREATE TABLE tags (
    digest TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (digest, key)
) WITHOUT ROWID;
CREATE INDEX tags_by_key ON tags (key, digest);
CREATE TABLE sequence (changes INTEGER NOT NULL);
INSERT INTO sequence VALUES (0);
PRAGMA user_version = 1;
COMMIT;
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open the database, creating it and its directory; read-only where we may not write.

    Raises: sqlite3.Error, OSError, StoreUnavailable.
    """
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK, effective_ids=True):
        return _connect_read_only(path)
    make_directories(path.parent)
    connection = _open(path, "rwc")
    try:
        with locked(path.with_name(path.name + ".lock"), exclusive=True):  # changing the mode does not wait
            if _version(connection) == 0:
                connection.execute("PRAGMA journal_mode = WAL")  # readers never wait for a writer
                connection.executescript(_TABLES)
        _refuse_other_versions(path, connection)
        connection.execute("PRAGMA synchronous = FULL")  # a name that was set survives a power cut
    except BaseException:  # an interrupt as well: nobody else would close it
        connection.close()
        raise
    return connection


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Beside a live writer its WAL is read; with none, the file cannot change and needs no lock."""
    live = path.with_name(path.name + "-wal").exists()
    connection = _open(path, "ro" if live else "ro&immutable=1")
    try:
        _refuse_other_versions(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are opened by hand
        check_same_thread=False,  # `Names` takes turns with a lock
    )


def _version(connection: sqlite3.Connection) -> int:
    with closing(connection.execute("PRAGMA user_version")) as rows:
        return int(rows.fetchone()[0])


def _refuse_other_versions(path: Path, connection: sqlite3.Connection) -> None:
    if (found := _version(connection)) != VERSION:
        raise StoreUnavailable(f"{path}: layout {found}, this program knows {VERSION}")

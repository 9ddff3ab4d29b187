"""The journal's database: group commits, alone in failing, still there after a kill."""

import asyncio
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from serving.jobs.database import Database, JournalError


def add_input(connection: sqlite3.Connection, digest: str) -> None:
    connection.execute("INSERT INTO inputs VALUES ('local', ?, '[]', 0)", (digest,))


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM inputs").fetchone()[0])


def test_what_was_written_is_read_and_survives_closing(tmp_path: Path) -> None:
    async def write_and_read() -> int:
        database = Database(tmp_path / "journal.sqlite")
        await asyncio.gather(*(database.write(partial(add_input, digest=str(n))) for n in range(50)))
        found = await database.read(count)
        database.close()
        return found

    assert asyncio.run(write_and_read()) == 50
    with sqlite3.connect(tmp_path / "journal.sqlite") as connection:
        assert count(connection) == 50
    connection.close()


def test_a_change_that_fails_fails_alone(tmp_path: Path) -> None:
    async def write() -> list[BaseException | None]:
        database = Database(tmp_path / "journal.sqlite")
        changes = [database.write(partial(add_input, digest=n)) for n in ("a", "a", "b")]
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
        assert await database.read(count) == 2
        database.close()
        return outcomes

    outcomes = asyncio.run(write())
    assert outcomes[0] is None
    assert isinstance(outcomes[1], sqlite3.IntegrityError)
    assert outcomes[2] is None


def test_readers_cannot_write(tmp_path: Path) -> None:
    async def try_to_write() -> None:
        database = Database(tmp_path / "journal.sqlite")
        try:
            await database.read(lambda c: add_input(c, "a"))
        finally:
            database.close()

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        asyncio.run(try_to_write())


def test_every_commit_is_synchronous(tmp_path: Path) -> None:
    async def pragmas() -> tuple[object, object]:
        database = Database(tmp_path / "journal.sqlite")
        synchronous = await database.write(lambda c: c.execute("PRAGMA synchronous").fetchone()[0])
        mode = await database.read(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0])
        database.close()
        return synchronous, mode

    assert asyncio.run(pragmas()) == (2, "wal")  # 2 is FULL


def test_a_journal_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="journal version 99"):
        Database(tmp_path / "journal.sqlite")


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
import asyncio, os, signal
from pathlib import Path
from serving.jobs.database import Database
async def main():
    database = Database(Path({str(tmp_path / "journal.sqlite")!r}))
    await database.write(lambda c: c.execute("INSERT INTO inputs VALUES ('local', 'kept', '[]', 0)"))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -9
    with sqlite3.connect(tmp_path / "journal.sqlite") as connection:
        assert connection.execute("SELECT digest FROM inputs").fetchall() == [("kept",)]
    connection.close()

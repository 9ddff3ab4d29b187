"""A data folder that was moved: the journal's paths follow it, so that nothing is lost sight of."""

import json
import sqlite3
from pathlib import Path

_PATHS = ("instances", "replaced_instances")


def relocate(connection: sqlite3.Connection, data: Path) -> bool:
    """Make every path lie in `data`, where the journal now is. True if it had been elsewhere before.

    Called inside a transaction, before anybody reads a path.
    """
    row = connection.execute("SELECT value FROM settings WHERE name = 'data'").fetchone()
    now = str(data)
    if row is not None and row["value"] == now:
        return False
    connection.execute("INSERT OR REPLACE INTO settings VALUES ('data', ?)", (now,))
    if row is None:
        return False
    before = str(row["value"])
    for table in _PATHS:
        connection.execute(
            f"UPDATE {table} SET path = ? || substr(path, ?) WHERE substr(path, 1, ?) = ?",  # noqa: S608
            (now, len(before) + 1, len(before) + 1, before + "/"),
        )
    for tenant, digest, images in connection.execute("SELECT tenant, digest, images FROM inputs").fetchall():
        moved = [
            [now + path.removeprefix(before) if path.startswith(before + "/") else path, *rest]
            for path, *rest in json.loads(images)
        ]
        connection.execute(
            "UPDATE inputs SET images = ? WHERE tenant = ? AND digest = ?",
            (json.dumps(moved), tenant, digest),
        )
    return True

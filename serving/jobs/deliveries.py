"""Results on their way to destinations: SQL over one connection, called inside a transaction."""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum


class DeliveryState(StrEnum):
    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"
    """Given up after the last attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    tenant: str
    job: str
    sop_instance_uid: str
    destination: str
    state: DeliveryState
    attempts: int
    next_at: float
    message: str


def add(
    connection: sqlite3.Connection, tenant: str, job: str, sop_instance_uid: str, destination: str, now: float
) -> None:
    """A result is to go to a destination. Asking twice changes nothing."""
    connection.execute(
        "INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?, ?, 'PENDING', 0, ?, '')",
        (tenant, job, sop_instance_uid, destination, now),
    )


def due(connection: sqlite3.Connection, now: float, limit: int = 100) -> list[DeliveryRecord]:
    """Pending deliveries that are due, the longest waiting first, one for each destination.

    So a destination that does not answer keeps nobody else waiting.
    """
    rows = connection.execute(
        """SELECT tenant, job, sop_instance_uid, destination, state, attempts, message,
                  MIN(next_at) AS next_at
           FROM deliveries WHERE state = 'PENDING' AND next_at <= ?
           GROUP BY tenant, destination ORDER BY next_at LIMIT ?""",
        (now, limit),
    )
    return [_record(row) for row in rows]


def attempted(
    connection: sqlite3.Connection, record: DeliveryRecord, state: DeliveryState, next_at: float, message: str
) -> None:
    connection.execute(
        """UPDATE deliveries SET state = ?, attempts = attempts + 1, next_at = ?, message = ?
           WHERE tenant = ? AND sop_instance_uid = ? AND destination = ?""",
        (state, next_at, message, record.tenant, record.sop_instance_uid, record.destination),
    )


def of_job(connection: sqlite3.Connection, tenant: str, job: str) -> list[DeliveryRecord]:
    rows = connection.execute(
        "SELECT * FROM deliveries WHERE tenant = ? AND job = ? ORDER BY destination, sop_instance_uid",
        (tenant, job),
    )
    return [_record(row) for row in rows]


def _record(row: sqlite3.Row) -> DeliveryRecord:
    return DeliveryRecord(**{**dict(row), "state": DeliveryState(row["state"])})

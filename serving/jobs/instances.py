"""Stored instances and the series they form: SQL over one connection, called inside a transaction."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from serving.dicom.instance import ReceivedInstance


class Arrival(Enum):
    NEW = "new"
    SAME = "same"
    """The same bytes were here already; the new file is not needed."""
    REPLACED = "replaced"
    """Other bytes under a known SOP Instance UID: the newest counts from now on."""
    CLASHES = "clashes"
    """Other bytes under the SOP Instance UID of one of our results: not taken."""


class ResultDiffers(Exception):
    """A result was made again with other bytes: a kernel is not deterministic. The first one stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One stored instance. `kind` is `received` or `result`."""

    tenant: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    digest: str
    size: int
    attributes: dict[str, str]
    patient: dict[str, str]
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRow:
    tenant: str
    series_instance_uid: str
    study_instance_uid: str
    state: str
    reason: str
    first_at: float
    last_at: float


_COLUMNS = (
    "tenant, sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid, "
    "transfer_syntax_uid, path, digest, size, attributes, patient, kind"
)


def add_received(
    connection: sqlite3.Connection, instances: Sequence[ReceivedInstance], now: float
) -> list[Arrival]:
    """Keep what was received and touch its series; a new image re-opens a complete one."""
    arrivals = [_add(connection, _row(instance, "received"), now) for instance in instances]
    for instance, arrival in zip(instances, arrivals, strict=True):
        if arrival in (Arrival.SAME, Arrival.CLASHES):
            continue
        connection.execute(
            """INSERT INTO series VALUES (?, ?, ?, 'RECEIVING', '', ?, ?)
               ON CONFLICT DO UPDATE SET state = 'RECEIVING', last_at = excluded.last_at""",
            (instance.tenant, instance.series_instance_uid, instance.study_instance_uid, now, now),
        )
    return arrivals


def add_result(connection: sqlite3.Connection, instance: ReceivedInstance, now: float) -> None:
    """Keep a result object. Adding it again changes nothing.

    Raises: ResultDiffers if its SOP Instance UID is taken by other bytes.
    """
    if _add(connection, _row(instance, "result"), now) is Arrival.CLASHES:
        raise ResultDiffers(instance.sop_instance_uid)


def find(
    connection: sqlite3.Connection,
    tenant: str,
    study: str | None = None,
    series: str | None = None,
    sop: str | None = None,
) -> list[InstanceRow]:
    """Stored instances of a tenant, narrowed by UIDs, in order of series and SOP Instance UID."""
    wanted = {
        "study_instance_uid": study,
        "series_instance_uid": series,
        "sop_instance_uid": sop,
    }
    given = {column: uid for column, uid in wanted.items() if uid is not None}
    where = " AND ".join(["tenant = ?", *(f"{column} = ?" for column in given)])
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM instances WHERE {where} "  # noqa: S608 - fixed column names
        "ORDER BY series_instance_uid, sop_instance_uid",
        (tenant, *given.values()),
    )
    return [
        InstanceRow(
            **{
                **dict(row),
                "attributes": json.loads(row["attributes"]),
                "patient": json.loads(row["patient"]),
            }
        )
        for row in rows
    ]


def receiving_series(connection: sqlite3.Connection) -> list[SeriesRow]:
    """Series of all tenants that were not complete when the server stopped."""
    rows = connection.execute("SELECT * FROM series WHERE state = 'RECEIVING' ORDER BY first_at")
    return [SeriesRow(**dict(row)) for row in rows]


def known_paths(connection: sqlite3.Connection) -> frozenset[str]:
    """Every file the journal knows of, replaced ones included."""
    rows = connection.execute("SELECT path FROM instances UNION SELECT path FROM replaced_instances")
    return frozenset(row["path"] for row in rows)


def set_complete(connection: sqlite3.Connection, tenant: str, series: str, reason: str) -> None:
    connection.execute(
        "UPDATE series SET state = 'COMPLETE', reason = ? WHERE tenant = ? AND series_instance_uid = ?",
        (reason, tenant, series),
    )


def _row(instance: ReceivedInstance, kind: str) -> InstanceRow:
    return InstanceRow(
        tenant=instance.tenant,
        sop_instance_uid=instance.sop_instance_uid,
        study_instance_uid=instance.study_instance_uid,
        series_instance_uid=instance.series_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        path=instance.path,
        digest=instance.digest,
        size=instance.size,
        attributes=dict(instance.attributes),
        patient=dict(instance.patient),
        kind=kind,
    )


def _add(connection: sqlite3.Connection, row: InstanceRow, now: float) -> Arrival:
    known = connection.execute(
        "SELECT path, digest, kind FROM instances WHERE tenant = ? AND sop_instance_uid = ?",
        (row.tenant, row.sop_instance_uid),
    ).fetchone()
    if known is not None and known["digest"] == row.digest:
        return Arrival.SAME
    if known is not None and "result" in (known["kind"], row.kind):
        return Arrival.CLASHES
    if known is not None:
        connection.execute(
            "INSERT INTO replaced_instances VALUES (?, ?, ?, ?, ?)",
            (row.tenant, row.sop_instance_uid, known["path"], known["digest"], now),
        )
    connection.execute(
        f"INSERT OR REPLACE INTO instances ({_COLUMNS}, received_at) "  # noqa: S608 - fixed column names
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.tenant,
            row.sop_instance_uid,
            row.study_instance_uid,
            row.series_instance_uid,
            row.sop_class_uid,
            row.transfer_syntax_uid,
            row.path,
            row.digest,
            row.size,
            json.dumps(row.attributes, sort_keys=True),
            json.dumps(row.patient, sort_keys=True),
            row.kind,
            now,
        ),
    )
    return Arrival.NEW if known is None else Arrival.REPLACED

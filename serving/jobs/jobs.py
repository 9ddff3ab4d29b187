"""Jobs, their inputs and their results: SQL over one connection, called inside a transaction."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.values import ImageReference, Measurement, Series


class JobState(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"
    """The input is outside what the pipeline can compute; the message says what of it."""
    FAILED = "FAILED"


ENDED = (JobState.COMPLETED, JobState.REFUSED, JobState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A plan applied to a series. Times are seconds since the epoch; `created_at` dates the results.

    reason is a stable word, message a sentence; neither names a patient.
    """

    id: str
    tenant: str
    study_instance_uid: str
    series_instance_uid: str
    input_digest: str
    pipeline: str
    plan: str
    binding: str
    software_version: str
    device: str
    state: JobState
    reason: str = ""
    message: str = ""
    warnings: tuple[str, ...] = ()
    stages: tuple[Mapping[str, Any], ...] = ()
    created_at: float
    last_image_at: float
    started_at: float | None = None
    finished_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRecord:
    tenant: str
    job: str
    output: str
    sop_instance_uid: str
    series_instance_uid: str
    measurements: tuple[Measurement, ...]


def add_input(connection: sqlite3.Connection, tenant: str, digest: str, series: Series, voxels: int) -> None:
    images = json.dumps([[image.path, image.digest, image.sop_instance_uid] for image in series.images])
    connection.execute("INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?)", (tenant, digest, images, voxels))


def read_input(connection: sqlite3.Connection, tenant: str, digest: str) -> tuple[Series, int]:
    """The images of an input, and the number of voxels in them. Raises KeyError if it is not known."""
    row = connection.execute(
        "SELECT images, voxels FROM inputs WHERE tenant = ? AND digest = ?", (tenant, digest)
    ).fetchone()
    if row is None:
        raise KeyError(digest)
    images = tuple(ImageReference(*image) for image in json.loads(row["images"]))
    return Series(images), int(row["voxels"])


def add(connection: sqlite3.Connection, job: JobRecord) -> bool:
    """Keep a new job. False if it was there (the same plan on the same input): nothing changes then."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            job.id,
            job.tenant,
            job.study_instance_uid,
            job.series_instance_uid,
            job.input_digest,
            job.pipeline,
            job.plan,
            job.binding,
            job.software_version,
            job.device,
            job.state,
            job.reason,
            job.message,
            json.dumps(job.warnings),
            json.dumps(job.stages),
            job.created_at,
            job.last_image_at,
            job.started_at,
            job.finished_at,
        ),
    )
    return cursor.rowcount == 1


def set_running(connection: sqlite3.Connection, job: str, now: float) -> None:
    connection.execute(
        "UPDATE jobs SET state = 'RUNNING', started_at = COALESCE(started_at, ?) WHERE id = ?", (now, job)
    )


def set_ended(
    connection: sqlite3.Connection,
    job: str,
    state: JobState,
    now: float,
    *,
    reason: str = "",
    message: str = "",
    warnings: Sequence[str] = (),
    stages: Sequence[Mapping[str, Any]] = (),
) -> None:
    connection.execute(
        """UPDATE jobs SET state = ?, reason = ?, message = ?, warnings = ?, stages = ?, finished_at = ?
           WHERE id = ?""",
        (state, reason, message, json.dumps(list(warnings)), json.dumps(list(stages)), now, job),
    )


def add_result(connection: sqlite3.Connection, result: ResultRecord) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)",
        (
            result.tenant,
            result.job,
            result.output,
            result.sop_instance_uid,
            result.series_instance_uid,
            json.dumps([[m.segment, m.quantity, m.value, m.unit] for m in result.measurements]),
        ),
    )


def unfinished(connection: sqlite3.Connection) -> list[JobRecord]:
    """Jobs of all tenants that have not ended, oldest first."""
    rows = connection.execute("SELECT * FROM jobs WHERE state IN ('QUEUED', 'RUNNING') ORDER BY created_at")
    return [_job(row) for row in rows]


def find(
    connection: sqlite3.Connection,
    tenant: str,
    *,
    job: str | None = None,
    study: str | None = None,
    series: str | None = None,
    state: str | None = None,
    limit: int = 1000,
) -> list[JobRecord]:
    """Jobs of a tenant, newest first, narrowed by what is given."""
    wanted = {"id": job, "study_instance_uid": study, "series_instance_uid": series, "state": state}
    given = {column: value for column, value in wanted.items() if value is not None}
    where = " AND ".join(["tenant = ?", *(f"{column} = ?" for column in given)])
    rows = connection.execute(
        f"SELECT * FROM jobs WHERE {where} ORDER BY created_at DESC, pipeline LIMIT ?",  # noqa: S608
        (tenant, *given.values(), limit),
    )
    return [_job(row) for row in rows]


def results_of(connection: sqlite3.Connection, tenant: str, job: str) -> list[ResultRecord]:
    rows = connection.execute(
        "SELECT * FROM results WHERE tenant = ? AND job = ? ORDER BY output", (tenant, job)
    )
    return [
        ResultRecord(
            **{
                **dict(row),
                "measurements": tuple(Measurement(*item) for item in json.loads(row["measurements"])),
            }
        )
        for row in rows
    ]


def _job(row: sqlite3.Row) -> JobRecord:
    values = dict(row)
    return JobRecord(
        **{
            **values,
            "state": JobState(values["state"]),
            "warnings": tuple(json.loads(values["warnings"])),
            "stages": tuple(json.loads(values["stages"])),
        }
    )

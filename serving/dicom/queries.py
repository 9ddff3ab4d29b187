"""Searches over the journal's instances at study, series and instance level. SQL inside a transaction."""

import json
import re
import sqlite3
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from serving.dicom.instance import ATTRIBUTES, PATIENT

Found: TypeAlias = dict[str, str]
"""Keyword -> text of one study, series or instance; several values joined by a backslash."""

_STUDY = (
    "StudyInstanceUID StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName "
    "PatientName PatientID PatientBirthDate PatientSex StudyID StudyDescription NumberOfStudyRelatedSeries "
    "NumberOfStudyRelatedInstances"
)
_SERIES = (
    "StudyInstanceUID SeriesInstanceUID Modality SeriesNumber SeriesDescription "
    "NumberOfSeriesRelatedInstances"
)
_INSTANCE = (
    "StudyInstanceUID SeriesInstanceUID SOPInstanceUID SOPClassUID InstanceNumber Rows Columns BitsAllocated "
    "NumberOfFrames"
)


class Level(Enum):
    """What is searched for: the column that tells one from another, and what is always returned."""

    STUDY = ("study_instance_uid", tuple(_STUDY.split()))
    SERIES = ("series_instance_uid", tuple(_SERIES.split()))
    INSTANCE = ("sop_instance_uid", tuple(_INSTANCE.split()))

    @property
    def column(self) -> str:
        return self.value[0]

    @property
    def returned(self) -> tuple[str, ...]:
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search. `matches` is keyword -> value as QIDO-RS writes it (PS3.4 C.2.2.2)."""

    level: Level
    matches: dict[str, str]
    include: frozenset[str]
    include_all: bool
    limit: int
    offset: int


_COLUMNS = {
    "StudyInstanceUID": "study_instance_uid",
    "SeriesInstanceUID": "series_instance_uid",
    "SOPInstanceUID": "sop_instance_uid",
    "SOPClassUID": "sop_class_uid",
}
_RANGES = frozenset({"StudyDate", "SeriesDate", "AcquisitionDate", "StudyTime", "SeriesTime"})


def run(connection: sqlite3.Connection, *, tenant: str, search: Search) -> list[Found]:
    """What matches, the newest first. Counts are of the whole study or series, not of what matched."""
    conditions, values = ["tenant = ?"], [tenant]
    for keyword, wanted in search.matches.items():
        condition, more = _condition(keyword, wanted)
        conditions.append(condition)
        values += more
    where = " AND ".join(conditions)
    rows = connection.execute(
        f"""SELECT study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid,
                   attributes, patient, max(received_at) AS newest
            FROM instances WHERE {where} GROUP BY {search.level.column}
            ORDER BY newest DESC, {search.level.column} LIMIT ? OFFSET ?""",  # noqa: S608 - names are ours
        (*values, search.limit, search.offset),
    ).fetchall()
    return [_found(connection, tenant, search.level, row) for row in rows]


def _found(connection: sqlite3.Connection, tenant: str, level: Level, row: Any) -> Found:
    found: Found = {**json.loads(row["attributes"]), **json.loads(row["patient"])}
    found |= {keyword: row[column] for keyword, column in _COLUMNS.items()}
    if level is Level.INSTANCE:
        return found
    counts = connection.execute(
        f"""SELECT count(*) AS instances, count(DISTINCT series_instance_uid) AS series,
                   group_concat(DISTINCT json_extract(attributes, '$.Modality')) AS modalities
            FROM instances WHERE tenant = ? AND {level.column} = ?""",  # noqa: S608 - names are ours
        (tenant, row[level.column]),
    ).fetchone()
    if level is Level.SERIES:
        return found | {"NumberOfSeriesRelatedInstances": str(counts["instances"])}
    return found | {
        "ModalitiesInStudy": "\\".join(sorted(filter(None, (counts["modalities"] or "").split(",")))),
        "NumberOfStudyRelatedSeries": str(counts["series"]),
        "NumberOfStudyRelatedInstances": str(counts["instances"]),
    }


def _condition(keyword: str, wanted: str) -> tuple[str, list[str]]:
    """One match as SQL: list of UIDs, range, wildcard or single value. What is not kept matches nothing."""
    if keyword in _COLUMNS:
        uids = re.split(r"[,\\]", wanted)
        return f"{_COLUMNS[keyword]} IN ({', '.join('?' * len(uids))})", uids
    if keyword == "ModalitiesInStudy":
        keyword = "Modality"
    if keyword in PATIENT.values():
        text = f"json_extract(patient, '$.{keyword}')"
    elif keyword in ATTRIBUTES.values():
        text = f"json_extract(attributes, '$.{keyword}')"
    else:
        return "0", []
    if keyword in _RANGES and "-" in wanted:
        first, _, last = wanted.partition("-")
        return f"{text} >= ? AND {text} <= ?", [first, last or "~"]  # ~ sorts behind every digit
    if "*" in wanted or "?" in wanted:
        return f"{text} GLOB ?", [wanted.replace("[", "[[]")]
    return f"{text} = ?", [wanted]

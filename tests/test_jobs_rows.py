"""What the journal's rows promise: the newest image counts, results are never replaced, folders may move."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.values import ImageReference, Series
from serving.dicom.instance import ReceivedInstance, Source
from serving.jobs import deliveries, instances, jobs
from serving.jobs.database import Database
from serving.jobs.instances import Arrival, ResultDiffers
from serving.jobs.relocation import relocate


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    Database(tmp_path / "journal.sqlite").close()
    opened = sqlite3.connect(tmp_path / "journal.sqlite")
    opened.row_factory = sqlite3.Row
    yield opened
    opened.close()


def instance(
    sop: str = "1.2.1", digest: str = "a", path: str = "/old/spool/1.dcm", source: Source = "dimse"
) -> ReceivedInstance:
    return ReceivedInstance(
        tenant="local",
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid=sop,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=path,
        digest=digest,
        size=1,
        attributes={"Modality": "CT"},
        patient={"PatientID": "P"},
        source=source,
        association="a1",
    )


def test_the_newest_bytes_under_a_uid_count_and_the_older_are_kept_on_disk(
    connection: sqlite3.Connection,
) -> None:
    arrivals = [
        instances.add_received(connection, [instance(digest=digest, path=f"/s/{digest}")], 1.0)[0]
        for digest in ("a", "a", "b")
    ]
    assert arrivals == [Arrival.NEW, Arrival.SAME, Arrival.REPLACED]
    (row,) = instances.find(connection, "local")
    assert (row.digest, row.path) == ("b", "/s/b")
    assert instances.known_paths(connection) == {"/s/a", "/s/b"}


def test_a_result_is_replaced_neither_by_a_sender_nor_by_a_second_computation(
    connection: sqlite3.Connection,
) -> None:
    instances.add_result(connection, instance(digest="ours", source="result"), 1.0)
    instances.add_result(connection, instance(digest="ours", source="result"), 2.0)
    assert instances.add_received(connection, [instance(digest="altered")], 3.0) == [Arrival.CLASHES]
    assert instances.add_received(connection, [instance(digest="ours")], 3.0) == [Arrival.SAME]
    with pytest.raises(ResultDiffers):
        instances.add_result(connection, instance(digest="other", source="result"), 4.0)
    (row,) = instances.find(connection, "local")
    assert (row.digest, row.kind) == ("ours", "result")


def test_the_paths_of_a_moved_data_folder_are_followed(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    assert not relocate(connection, Path("/old"))
    instances.add_received(connection, [instance()], 1.0)
    instances.add_received(connection, [instance(sop="1.2.2", path="/older/1.dcm")], 1.0)
    series = Series((ImageReference("/old/spool/1.dcm", "a", "1.2.1"),))
    jobs.add_input(connection, "local", "digest", series, 10)
    assert not relocate(connection, Path("/old"))
    assert relocate(connection, Path("/new place"))
    assert [row.path for row in instances.find(connection, "local")] == [
        "/new place/spool/1.dcm",
        "/older/1.dcm",
    ]
    moved, voxels = jobs.read_input(connection, "local", "digest")
    assert (moved.images[0].path, voxels) == ("/new place/spool/1.dcm", 10)


def test_one_delivery_at_a_time_is_due_for_each_destination(connection: sqlite3.Connection) -> None:
    for number in range(5):
        deliveries.add(connection, "local", "job", f"1.2.{number}", "dead", 1.0 + number)
    deliveries.add(connection, "local", "job", "1.2.9", "alive", 100.0)
    due = deliveries.due(connection, 200.0)
    assert [(record.destination, record.sop_instance_uid) for record in due] == [
        ("dead", "1.2.0"),
        ("alive", "1.2.9"),
    ]

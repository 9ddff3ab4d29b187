"""Derived UIDs are legal, and equal exactly where what they name is equal."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from models.dicom_uids import derived_uid, result_uids
from models.operators.base import JobContext

JOB = JobContext(
    tenant="t",
    plan="p",
    binding="b",
    pipeline="x",
    pipeline_version="1",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    device="cpu",
    software_version="1",
)


@given(st.lists(st.text(), max_size=4))
def test_a_derived_uid_is_legal(parts: list[str]) -> None:
    uid = UID(derived_uid(*parts))
    assert uid.is_valid
    assert uid.startswith("2.25.")


@given(st.lists(st.text(max_size=3), max_size=3), st.lists(st.text(max_size=3), max_size=3))
def test_uids_are_equal_where_all_parts_are(one: list[str], other: list[str]) -> None:
    assert (derived_uid(*one) == derived_uid(*other)) == (one == other)


def test_a_uid_never_changes_between_versions() -> None:
    assert derived_uid("a", "b") == "2.25.70889510646818029623684566370032734534"


def test_the_order_of_source_instances_does_not_matter() -> None:
    assert result_uids(JOB, ["1", "2"], "o", "BINARY") == result_uids(JOB, ["2", "1"], "o", "BINARY")


def test_time_and_place_of_a_retry_do_not_matter() -> None:
    later = replace(JOB, created=datetime(2027, 1, 1, tzinfo=UTC), device="cuda:0")
    assert result_uids(JOB, ["1"], "o", "BINARY") == result_uids(later, ["1"], "o", "BINARY")

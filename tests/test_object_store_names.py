"""Names move, remember where they were, and go back; tags stay beside their object."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from object_store import Digest, NameRecord, Names, NameUnknown, NothingToRollBackTo, StoreUnavailable

A, B, C = (Digest.of(data) for data in (b"a", b"b", b"c"))


@pytest.fixture
def names(tmp_path: Path) -> Iterator[Names]:
    with Names(tmp_path / "store" / "names.sqlite") as opened:
        yield opened


def test_a_name_stands_for_what_it_was_last_set_to(names: Names) -> None:
    assert names.get("local/ct-lungs") is None
    names.set("local/ct-lungs", A)
    names.set("local/ct-lungs", B)
    assert names.get("local/ct-lungs") == B


def test_names_that_are_set_together_are_one_change(names: Names) -> None:
    names.set("ct-lungs", A)
    before = names.sequence()
    names.set_all({"ct-lungs": B, "ct-liver": C})
    assert names.items() == {"ct-liver": C, "ct-lungs": B}
    assert names.rollback_target("ct-lungs") == A
    assert names.sequence() == before + 1
    names.set_all({"ct-lungs": B, "ct-liver": C})
    assert names.sequence() == before + 1


def test_of_names_that_are_set_together_none_is_set_where_one_fails(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Names._append

    def failing(self: Names, connection: Any, name: str, *rest: Any, **more: Any) -> None:
        append(self, connection, name, *rest, **more)
        if name == "second":
            raise StoreUnavailable("gone")

    monkeypatch.setattr(Names, "_append", failing)
    with pytest.raises(StoreUnavailable):
        names.set_all({"first": A, "second": B})
    assert names.items() == {}


def test_names_survive_their_process(tmp_path: Path) -> None:
    path = tmp_path / "names.sqlite"
    with Names(path) as first:
        first.set("ct-lungs", A)
        first.tag(A, "kind", "plan")
    with Names(path) as second:
        assert second.get("ct-lungs") == A
        assert second.tags(A) == {"kind": "plan"}
        assert second.sequence() == 2


@given(
    chosen=st.dictionaries(st.text(alphabet="a/%_*é\U0010ffff", max_size=4), st.sampled_from([A, B, C])),
    prefix=st.text(alphabet="a/%_*é", max_size=2),
)
@settings(max_examples=25, deadline=None)
def test_items_are_the_names_that_begin_with_the_prefix(
    tmp_path_factory: pytest.TempPathFactory, chosen: dict[str, Digest], prefix: str
) -> None:
    with Names(tmp_path_factory.mktemp("names") / "names.sqlite") as names:
        for name, digest in chosen.items():
            names.set(name, digest)
        expected = {name: chosen[name] for name in sorted(chosen) if name.startswith(prefix)}
        assert list(names.items(prefix).items()) == list(expected.items())


def test_the_history_tells_what_was_when_oldest_first(tmp_path: Path) -> None:
    moments = iter([100.0, 200.5, 300.0])
    with Names(tmp_path / "names.sqlite", clock=lambda: next(moments)) as names:
        for digest in (A, B, A):
            names.set("ct-lungs", digest)
        assert names.history("ct-lungs") == [
            NameRecord(A, datetime.fromtimestamp(100.0, UTC)),
            NameRecord(B, datetime.fromtimestamp(200.5, UTC)),
            NameRecord(A, datetime.fromtimestamp(300.0, UTC)),
        ]
        assert names.history("unknown") == []


def test_setting_a_name_to_what_it_stands_for_is_no_change(names: Names) -> None:
    names.set("ct-lungs", A)
    before = names.sequence()
    names.set("ct-lungs", A)
    assert names.sequence() == before
    assert len(names.history("ct-lungs")) == 1


def test_each_rollback_goes_one_further_back(names: Names) -> None:
    for digest in (A, B, C):
        names.set("ct-lungs", digest)
    assert names.rollback("ct-lungs") == B == names.get("ct-lungs")
    assert names.rollback("ct-lungs") == A == names.get("ct-lungs")
    with pytest.raises(NothingToRollBackTo) as caught:
        names.rollback("ct-lungs")
    assert caught.value.name == "ct-lungs"
    assert names.get("ct-lungs") == A


def test_a_rollback_is_itself_history(names: Names) -> None:
    for digest in (A, B):
        names.set("ct-lungs", digest)
    names.rollback("ct-lungs")
    names.set("ct-lungs", C)
    assert [record.digest for record in names.history("ct-lungs")] == [A, B, A, C]
    assert names.rollback("ct-lungs") == A


def test_an_unknown_name_can_neither_be_rolled_back_nor_deleted(names: Names) -> None:
    with pytest.raises(NameUnknown, match="'ct-lungs'"):
        names.rollback("ct-lungs")
    with pytest.raises(NameUnknown, match="'ct-lungs'"):
        names.delete("ct-lungs")
    assert names.sequence() == 0


def test_a_deleted_name_leaves_no_history(names: Names) -> None:
    names.set("ct-lungs", A)
    names.delete("ct-lungs")
    assert names.get("ct-lungs") is None
    assert names.history("ct-lungs") == []
    assert names.roots() == frozenset()


def test_what_a_name_can_be_rolled_back_to_is_kept_until_the_history_is_shortened(names: Names) -> None:
    for digest in (A, B, C):
        names.set("ct-lungs", digest)
    names.set("ct-bones", A)
    assert names.roots() == {A, B, C}
    assert names.roots(without={"no such name"}) == {A, B, C}
    assert names.roots(without=names.items().keys()) == frozenset()
    assert names.shorten_history(2) == 1
    names.delete("ct-bones")
    assert names.roots() == {B, C}
    assert names.rollback("ct-lungs") == B
    with pytest.raises(NothingToRollBackTo):
        names.rollback("ct-lungs")
    assert names.shorten_history(0) == 2
    assert names.get("ct-lungs") == B


def test_every_change_is_seen_in_the_sequence_by_another_connection(names: Names) -> None:
    changes: list[Callable[[], object]] = [
        lambda: names.set("ct-lungs", A),
        lambda: names.set("ct-lungs", B),
        lambda: names.rollback("ct-lungs"),
        lambda: names.tag(A, "kind", "plan"),
        lambda: names.forget_tags([A]),
        lambda: names.delete("ct-lungs"),
    ]
    with Names(names.path) as watcher:
        seen = [watcher.sequence()]
        for change in changes:
            change()
            seen.append(watcher.sequence())
    assert seen == sorted(set(seen))


def test_tags_are_replaced_by_key_and_found_by_key(names: Names) -> None:
    names.tag(A, "kind", "plan")
    names.tag(A, "kind", "graph")
    names.tag(A, "from", "ct-lungs.yaml")
    names.tag(B, "kind", "plan")
    assert names.tags(A) == {"from": "ct-lungs.yaml", "kind": "graph"}
    assert names.tagged("kind") == {A: "graph", B: "plan"}
    before = names.sequence()
    names.tag(B, "kind", "plan")
    assert names.sequence() == before


def test_threads_take_turns_on_one_connection(names: Names) -> None:
    def work(thread: int) -> None:
        for turn in range(10):
            names.set(f"{thread}/{turn}", A)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names.items()) == names.sequence() == 40


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.sqlite"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Names(path)


def test_names_of_a_newer_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.sqlite"
    with Names(path) as names:
        names._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="layout 99"):
        Names(path)


def test_names_cannot_be_used_after_closing(tmp_path: Path) -> None:
    names = Names(tmp_path / "names.sqlite")
    names.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        names.get("ct-lungs")

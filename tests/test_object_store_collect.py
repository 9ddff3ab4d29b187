"""Garbage collection keeps all that a name leads to, and verification finds what is damaged."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from object_store import (
    Collected,
    Digest,
    Finding,
    ObjectCorrupt,
    ObjectMissing,
    Problem,
    Store,
    collect_garbage,
    open_store,
    verify,
)

DAY_S = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def references(_: Digest, content: bytes) -> list[Digest]:
    """The objects of these tests: a list of digests begins with `refs`, anything else refers to nothing."""
    lines = content.decode().splitlines()
    return [Digest.parse(line) for line in lines[1:]] if lines[:1] == ["refs"] else []


def put_list(store: Store, *digests: Digest) -> Digest:
    return store.objects.put("\n".join(["refs", *map(str, digests)]).encode())


def age(store: Store, *digests: Digest) -> None:
    """Let these objects have been put a day ago."""
    for digest in digests:
        path = store.objects._path(digest)
        then = path.stat().st_mtime - DAY_S
        os.utime(path, (then, then))


def collect(store: Store, older_than_s: float = 3600.0) -> Collected:
    return collect_garbage(store.objects, store.names, references, older_than_s)


def test_only_what_no_name_leads_to_is_deleted(store: Store) -> None:
    leaf, shared, garbage = (store.objects.put(data) for data in (b"leaf", b"shared", b"garbage"))
    branch = put_list(store, leaf, shared)
    top = put_list(store, branch, shared)
    unnamed = put_list(store, garbage, shared)
    store.names.set("ct-lungs", top)
    age(store, *store.objects)
    collected = collect(store)
    assert set(store.objects) == {leaf, shared, branch, top}
    assert collected.kept == 4
    assert set(collected.deleted) == {garbage, unnamed}
    assert collected.deleted_bytes == garbage.size + unnamed.size


def test_what_a_name_stood_for_is_kept_for_its_rollback(store: Store) -> None:
    before, now = store.objects.put(b"before"), store.objects.put(b"now")
    store.names.set("ct-lungs", before)
    store.names.set("ct-lungs", now)
    age(store, before, now)
    assert collect(store).deleted == ()
    store.names.shorten_history(1)
    assert collect(store).deleted == (before,)


def test_what_was_put_lately_is_spared(store: Store) -> None:
    digest = store.objects.put(b"about to be named")
    assert collect(store) == Collected(kept=0, spared=1, deleted=(), abandoned_files=0)
    assert collect(store, older_than_s=-1.0).deleted == (digest,)


def test_putting_old_garbage_again_protects_it(store: Store) -> None:
    digest = store.objects.put(b"garbage")
    age(store, digest)
    store.objects.put(b"garbage")
    assert collect(store).deleted == ()


def test_asking_whether_old_garbage_is_missing_protects_it(store: Store) -> None:
    digest = store.objects.put(b"garbage")
    age(store, digest)
    assert store.objects.missing([digest]) == frozenset()
    assert collect(store).deleted == ()


def test_an_object_put_while_gc_was_looking_is_not_deleted(store: Store) -> None:
    named, digest = store.objects.put(b"named"), store.objects.put(b"garbage")
    store.names.set("ct-lungs", named)
    age(store, digest)

    def meanwhile(_: Digest, content: bytes) -> list[Digest]:
        store.objects.put(b"garbage")
        return []

    assert collect_garbage(store.objects, store.names, meanwhile, 3600.0).deleted == ()


def test_nothing_is_deleted_while_something_needed_cannot_be_read(store: Store) -> None:
    leaf = store.objects.put(b"leaf")
    top = put_list(store, leaf)
    store.names.set("ct-lungs", top)
    age(store, leaf, top)
    path = store.objects._path(top)
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + b"9")
    with pytest.raises(ObjectCorrupt):
        collect(store)
    path.unlink()
    with pytest.raises(ObjectMissing):
        collect(store)
    assert leaf in store.objects


def test_objects_that_refer_to_each_other_do_not_hang_gc(store: Store) -> None:
    one, two = store.objects.put(b"one"), store.objects.put(b"two")
    store.names.set("ct-lungs", one)
    other = {one: [two, one], two: [one]}
    assert collect_garbage(store.objects, store.names, lambda digest, _: other[digest], 0.0).kept == 2


def test_the_tags_of_what_is_deleted_go_with_it(store: Store) -> None:
    kept, garbage = store.objects.put(b"kept"), store.objects.put(b"garbage")
    store.names.set("ct-lungs", kept)
    for digest in (kept, garbage):
        store.names.tag(digest, "kind", "plan")
    age(store, kept, garbage)
    collect(store)
    assert store.names.tagged("kind") == {kept: "plan"}


def test_half_written_files_of_the_dead_are_removed(store: Store) -> None:
    store.objects.put(b"kept")
    (store.objects.root / "incoming" / "0123").write_bytes(b"half")
    assert collect(store).abandoned_files == 1
    assert list((store.objects.root / "incoming").iterdir()) == []


def test_a_dry_run_says_what_would_go_and_deletes_nothing(store: Store) -> None:
    digest, young = store.objects.put(b"garbage"), store.objects.put(b"young")
    age(store, digest)
    collected = collect_garbage(store.objects, store.names, references, 3600.0, dry_run=True)
    assert (collected.deleted, collected.spared) == ((digest,), 1)
    assert set(store.objects) == {digest, young}


def test_more_garbage_than_one_turn_of_the_lock_is_all_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("object_store.collect._BATCH", 2)
    for number in range(5):
        store.objects.put(b"%d" % number)
    age(store, *store.objects)
    assert len(collect(store).deleted) == 5
    assert list(store.objects) == []


def test_verify_finds_exactly_what_is_damaged(store: Store) -> None:
    digests = [store.objects.put(b"object %d" % number) for number in range(3)]
    for digest, content in ((digests[0], b"object 9"), (digests[1], b"obj")):
        path = store.objects._path(digest)
        path.chmod(0o644)
        path.write_bytes(content)
    seen: list[Digest] = []
    found = list(verify(store.objects, checked=seen.append))
    assert found == sorted((Finding(d, Problem.DAMAGED) for d in digests[:2]), key=lambda f: f.digest)
    assert seen == sorted(digests)
    for number in range(3):
        store.objects.put(b"object %d" % number)
    heals_lengths_only = [finding.digest for finding in verify(store.objects)]
    assert heals_lengths_only == [digests[0]]


def test_a_dry_run_counts_what_only_names_passed_over_lead_to(store: Store) -> None:
    top, both = (put_list(store, store.objects.put(data)) for data in (b"of one", b"of both"))
    store.names.set("going", top)
    store.names.set("going", both)
    store.names.set("staying", both)
    age(store, *store.objects)
    would = collect_garbage(
        store.objects, store.names, references, 3600.0, dry_run=True, without=frozenset({"going"})
    )
    assert would.kept == 2
    store.names.delete("going")
    assert collect(store) == would
    with pytest.raises(AssertionError):
        collect_garbage(store.objects, store.names, references, 3600.0, without=frozenset({"staying"}))

"""Several processes at one store: writers of the same objects, and gc beside a writer."""

import os
import subprocess
import sys
from pathlib import Path

from object_store import Digest, LocalStore, Names, collect_garbage, open_store

WRITER = """
import sys
from pathlib import Path
from object_store import open_store

root, who, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with open_store(root) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        digest = store.objects.put(b"object %d" % number)
        store.names.set(f"{who}/{number}", digest)
        if number == 0:
            print("writing", flush=True)
"""


def start(root: Path, who: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), who, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def go(writer: subprocess.Popen[str]) -> None:
    assert writer.stdin is not None
    writer.stdin.write("go\n")
    writer.stdin.flush()


def line_of(writer: subprocess.Popen[str]) -> str:
    assert writer.stdout is not None
    return writer.stdout.readline().strip()


def test_processes_that_open_a_new_store_and_put_the_same_objects_at_once_agree(tmp_path: Path) -> None:
    root, count = tmp_path / "store", 40
    writers = [start(root, f"writer-{number}", count) for number in range(3)]
    for writer in writers:
        assert line_of(writer) == "ready"
    for writer in writers:
        go(writer)
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    expected = {Digest.of(b"object %d" % number) for number in range(count)}
    with open_store(root, verify_on_read=True) as store:
        assert set(store.objects) == expected
        assert len(store.names.items()) == store.names.sequence() == 3 * count
        for digest in expected:
            store.objects.get(digest)
    assert list((root / "incoming").iterdir()) == []


def test_gc_beside_a_writer_deletes_all_the_garbage_and_nothing_the_writer_named(tmp_path: Path) -> None:
    root, count = tmp_path / "store", 150
    objects = LocalStore(root)
    for number in range(2 * count):  # all is old garbage; the writer will want the first half of it again
        path = objects._path(objects.put(b"object %d" % number))
        os.utime(path, (0.0, 0.0))
    writer = start(root, "writer", count)
    assert line_of(writer) == "ready"
    go(writer)
    assert line_of(writer) == "writing"
    deleted: set[Digest] = set()
    with Names(root / "names.sqlite") as names:
        while writer.poll() is None:
            deleted.update(collect_garbage(objects, names, lambda digest, content: (), 3600.0).deleted)
        writer.communicate(timeout=60)
        assert writer.returncode == 0
        deleted.update(collect_garbage(objects, names, lambda digest, content: (), 3600.0).deleted)
        named = names.items()
    assert len(named) == count
    assert objects.missing(named.values()) == frozenset()
    assert set(objects) == set(named.values())
    assert deleted >= {Digest.of(b"object %d" % number) for number in range(count, 2 * count)}


def test_a_killed_writer_blocks_nobody_and_leaves_nothing_for_ever(tmp_path: Path) -> None:
    root = tmp_path / "store"
    writer = start(root, "writer", 100_000)
    assert line_of(writer) == "ready"
    go(writer)
    assert line_of(writer) == "writing"
    writer.kill()
    writer.communicate(timeout=60)
    with open_store(root, verify_on_read=True) as store:
        for name, digest in store.names.items().items():
            assert store.objects.get(digest) == b"object " + name.split("/")[1].encode()
        collect_garbage(store.objects, store.names, lambda digest, content: (), -1.0)
        assert list((root / "incoming").iterdir()) == []
        assert set(store.objects) == set(store.names.items().values())

"""The local directory: what a crash, a full disk, bad bits and missing permissions may and may not do."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from object_store import (
    Digest,
    LocalStore,
    ObjectCorrupt,
    ObjectMissing,
    StoreFull,
    StoreUnavailable,
    open_store,
)

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def file_of(root: Path, digest: Digest) -> Path:
    return root / "objects" / digest.sha256[:2] / f"{digest.sha256}-{digest.size}"


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


class Death(BaseException):
    """The process ends before this system call."""


class SystemCalls:
    """Records the calls that decide what survives, and may fail one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.seen: list[str] = []
        self.before: Callable[[str], None] = lambda call: None
        self._root = root
        for name in ("write", "fsync", "replace"):
            monkeypatch.setattr(os, name, self._recording(name, getattr(os, name)))

    def _recording(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *others: Any) -> Any:
            path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
            if path.is_relative_to(self._root):
                first, *others_inside = path.relative_to(self._root).parts or ("root",)
                what = "/".join([first, *("*" for _ in others_inside)])
                self.before(f"{name} {what}")
                self.seen.append(f"{name} {what}")
            return real(target, *others)

        return call


def test_content_is_durable_before_its_name_and_the_name_before_put_returns(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(root)
    calls = SystemCalls(monkeypatch, root)
    store.put(b"weights")
    assert calls.seen == [
        "fsync root",  # which holds the new name `incoming`
        "write incoming/*",
        "fsync root",  # `objects`
        "fsync objects",  # `objects/<2 hex digits>`
        "fsync incoming/*",  # the content
        "replace incoming/*",  # its name
        "fsync objects/*",
    ]


def test_a_second_put_writes_nothing_but_makes_sure_of_the_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(root)
    store.put(b"weights")
    calls = SystemCalls(monkeypatch, root)
    store.put(b"weights")
    assert calls.seen == ["fsync objects/*/*", "fsync objects/*"]


@pytest.mark.parametrize("calls_made", range(8))
def test_a_death_at_any_call_leaves_all_of_the_object_or_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, calls_made: int
) -> None:
    calls = SystemCalls(monkeypatch, root)
    died = False

    def die(call: str) -> None:
        nonlocal died
        if len(calls.seen) == calls_made:
            died = True
            monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # the dead do not tidy up
            raise Death(call)

    calls.before = die
    with suppress(Death):
        LocalStore(root).put(b"weights")
    monkeypatch.undo()
    assert died == (calls_made < 7)  # a first put makes seven calls: the last case is a whole put
    after = LocalStore(root, verify_on_read=True)
    digest = Digest.of(b"weights")
    assert (digest in after) == (calls_made >= 6)  # the sixth is the rename
    assert list(after) == [digest for _ in range(calls_made >= 6)]
    assert after.get(after.put(b"weights")) == b"weights"


@pytest.mark.parametrize("failing", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_and_leaves_no_half_written_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, failing: str, code: int
) -> None:
    store = LocalStore(root)
    kept = store.put(b"kept")

    def full(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(StoreFull, match="no space left"):
            store.put(b"too much")
    assert list(store) == [kept]
    assert list((root / "incoming").iterdir()) == []
    assert store.get(store.put(b"too much")) == b"too much"


def test_a_failing_disk_is_not_a_full_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        LocalStore(root).put(b"weights")


def test_a_short_write_is_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    assert LocalStore(root).get(LocalStore(root).put(b"ten bytes!")) == b"ten bytes!"


@pytest.mark.parametrize("verify_on_read", [False, True])
@pytest.mark.parametrize("content", [b"weight", b"weights!", b""])
def test_a_wrong_length_is_noticed_without_hashing(
    root: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, verify_on_read: bool
) -> None:
    store = LocalStore(root, verify_on_read=verify_on_read)
    digest = store.put(b"weights")
    overwrite(file_of(root, digest), content)
    monkeypatch.setattr(Digest, "of", None)
    for read in (store.get, store.map):
        with pytest.raises(ObjectCorrupt) as caught:
            read(digest)
        assert caught.value.digest == digest
    assert digest not in store
    assert store.missing([digest]) == {digest}


def test_a_put_heals_a_truncated_object(root: Path) -> None:
    store = LocalStore(root)
    digest = store.put(b"weights")
    overwrite(file_of(root, digest), b"weig")
    store.put(b"weights")
    assert store.get(digest) == b"weights"


def test_a_flipped_bit_is_noticed_by_a_verifying_store_and_healed_by_its_put(root: Path) -> None:
    store = LocalStore(root, verify_on_read=True)
    digest = store.put(b"weights")
    overwrite(file_of(root, digest), b"weighty")
    assert LocalStore(root).get(digest) == b"weighty"  # the price of not verifying
    for read in (store.get, store.map, store.check, LocalStore(root).check):
        with pytest.raises(ObjectCorrupt):
            read(digest)
    store.put(b"weights")
    assert store.get(digest) == b"weights"


def test_a_mapped_object_is_a_read_only_view_of_single_bytes(root: Path) -> None:
    store = LocalStore(root)
    view = store.map(store.put(b"weights"))
    assert bytes(view) == b"weights"
    assert view.readonly
    assert (view.format, view.ndim, view.nbytes) == ("B", 1, 7)
    assert bytes(store.map(store.put(b""))) == b""


def test_a_mapped_object_outlives_its_deletion(root: Path) -> None:
    store = LocalStore(root)
    digest = store.put(b"weights")
    view = store.map(digest)
    with store.exclusive():
        assert store.discard([digest], unused_since_s=float("inf")) == [digest]
    assert bytes(view) == b"weights"
    with pytest.raises(ObjectMissing):
        store.map(digest)


@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 1])
def test_a_file_is_put_like_its_content(root: Path, tmp_path: Path, size: int) -> None:
    source = tmp_path / "network.onnx"
    source.write_bytes(b"x" * size)
    store = LocalStore(root)
    digest = store.put_file(source)
    assert digest == store.put_file(source) == store.put(b"x" * size)
    assert store.get(digest) == b"x" * size
    assert list((root / "incoming").iterdir()) == []


def test_a_file_that_is_not_there_is_the_callers_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalStore(root).put_file(tmp_path / "absent")
    assert not root.exists()


def test_objects_cannot_be_opened_for_writing_by_accident(root: Path) -> None:
    digest = LocalStore(root).put(b"weights")
    assert stat.S_IMODE(file_of(root, digest).stat().st_mode) & 0o222 == 0


def test_strange_files_are_passed_over(root: Path) -> None:
    store = LocalStore(root)
    digest = store.put(b"weights")
    (root / "objects" / "README").write_text("hello")
    (root / "objects" / digest.sha256[:2] / "notes.txt").write_text("hello")
    assert list(store) == [digest]


def test_asking_a_store_that_is_not_there_creates_nothing(root: Path) -> None:
    store = LocalStore(root)
    digest = Digest.of(b"weights")
    assert store.missing([digest]) == {digest}
    assert digest not in store
    assert list(store) == []
    assert not root.exists()


@contextmanager
def as_somebody_who_may_only_read(directory: Path) -> Iterator[None]:
    """Take the write permission from a tree; root, whom that would not stop, becomes nobody."""
    tree = [directory, *(path for path in directory.rglob("*") if path.is_dir())]
    for path in tree:
        path.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path in tree:
            path.chmod(0o755)


def test_a_store_that_may_only_be_read_is_read_and_refuses_the_rest(request: pytest.FixtureRequest) -> None:
    directory = Path(mkdtemp(prefix="lightbox-test-"))  # not below tmp_path, which only its owner may enter
    request.addfinalizer(lambda: shutil.rmtree(directory))
    with open_store(directory / "store") as store:
        digest = store.objects.put(b"weights")
        store.names.set("ct-lungs", digest)
    with as_somebody_who_may_only_read(directory), open_store(directory / "store") as store:
        assert store.objects.get(digest) == bytes(store.objects.map(digest)) == b"weights"
        assert store.objects.missing([digest]) == frozenset()
        assert store.names.get("ct-lungs") == digest
        for put in (b"new", b"weights"):
            with pytest.raises(StoreUnavailable, match=r"Permission denied|not permitted"):
                store.objects.put(put)
        with pytest.raises(StoreUnavailable, match="readonly"):
            store.names.set("ct-lungs", Digest.of(b"new"))
        with pytest.raises(StoreUnavailable):
            open_store(directory / "elsewhere")

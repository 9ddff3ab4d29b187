"""The spool: whole files or none, names without patients, nothing left behind."""

import hashlib
import os
from pathlib import Path

import pytest

from serving.dicom.spool import FILES_PER_FOLDER, Spool
from serving.errors import NoCapacity


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_written_is_there_under_its_digest(tmp_path: Path) -> None:
    folder = Spool(tmp_path, min_free_bytes=0).folder("local", "a1")
    incoming = folder.begin()
    data = os.urandom(700_000)
    for start in range(0, len(data), 16384):
        incoming.write(memoryview(data)[start : start + 16384])
    file = incoming.finish()
    assert file.path.read_bytes() == data
    assert file.digest == f"sha256:{hashlib.sha256(data).hexdigest()}:{len(data)}"
    assert file.path.relative_to(tmp_path).parts[0] == "local"
    incoming.discard()
    assert file.path.exists()


def test_a_file_has_its_final_name_only_when_it_is_whole(tmp_path: Path) -> None:
    folder = Spool(tmp_path, min_free_bytes=0).folder("local", "a1")
    incoming = folder.begin()
    incoming.write(bytes(1 << 20))
    assert [path.suffix for path in files_below(tmp_path)] == [".part"]
    incoming.discard()
    folder.close()
    assert list(tmp_path.rglob("a1*")) == []


def test_too_little_free_disk_refuses_before_anything_is_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path, min_free_bytes=1 << 60)
    with pytest.raises(NoCapacity, match="bytes of disk are free"):
        spool.folder("local", "a1").begin()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_in_mid_file_is_no_capacity_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = Spool(tmp_path, min_free_bytes=0).folder("local", "a1").begin()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device", "/a/path")

    monkeypatch.setattr(os, "fsync", full)
    incoming.write(b"data")
    with pytest.raises(NoCapacity) as refused:
        incoming.finish()
    assert "No space left" in str(refused.value)
    assert "/a/path" not in str(refused.value)
    assert files_below(tmp_path) == []


def test_a_long_association_goes_on_in_another_folder(tmp_path: Path) -> None:
    folder = Spool(tmp_path, min_free_bytes=0).folder("local", "a1")
    folder._files = FILES_PER_FOLDER - 1
    paths = []
    for _ in range(2):
        incoming = folder.begin()
        incoming.write(b"data")
        paths.append(incoming.finish().path)
    assert [path.parent.name for path in paths] == ["a1-0", "a1-1"]


def test_a_sweep_keeps_what_is_known_and_removes_the_rest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, min_free_bytes=0)
    folder = spool.folder("local", "a1")
    kept = []
    for data in (b"known", b"unknown"):
        incoming = folder.begin()
        incoming.write(data)
        kept.append(incoming.finish().path)
    spool.folder("north", "a2").begin().write(b"half")
    assert spool.sweep(lambda path: path == kept[0]) == 2
    assert files_below(tmp_path) == [kept[0]]
    assert [path.name for path in tmp_path.glob("*/*")] == ["a1-0"]

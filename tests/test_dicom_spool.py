"""The spool: whole files or none, names without patients, nothing left behind."""

import hashlib
import os
from pathlib import Path

import pytest

from serving.config import Config
from serving.dicom import spool as spool_module
from serving.dicom.spool import FILES_PER_FOLDER, Spool
from serving.errors import NoCapacity, TooLarge
from serving.workplace import occupy


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


def test_a_sweep_keeps_what_is_known_and_sets_the_rest_apart(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", min_free_bytes=0)
    folder = spool.folder("local", "a1")
    kept = []
    for data in (b"known", b"unknown"):
        incoming = folder.begin()
        incoming.write(data)
        kept.append(incoming.finish().path)
    spool.folder("north", "a2").begin().write(b"half")
    assert spool.sweep(lambda path: path == kept[0]) == 1
    assert files_below(tmp_path / "spool") == [kept[0]]
    assert [path.name for path in (tmp_path / "spool").glob("*/*")] == ["a1-0"]
    assert [path.read_bytes() for path in files_below(tmp_path / "spool-unclaimed")] == [b"unknown"]


def test_the_names_in_a_folder_are_synced_before_the_next_folder_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STOW-RS syncs a folder once for many files; some may lie in the folder before."""
    synced = recorded_syncs(monkeypatch)
    folder = Spool(tmp_path, min_free_bytes=0).folder("local", "a1")
    folder._files = FILES_PER_FOLDER - 1
    incoming = folder.begin()
    incoming.finish(sync_folder=False)
    assert tmp_path / "local" / "a1-0" not in synced
    folder.begin().discard()
    assert tmp_path / "local" / "a1-0" in synced


def test_a_descriptor_that_was_closed_is_never_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Spool(tmp_path, min_free_bytes=0).folder("local", "a1")
    folder._files = FILES_PER_FOLDER - 1
    folder.begin().finish()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refused_by_the_disk)
        with pytest.raises(NoCapacity):
            folder.begin()
    reused = os.open(tmp_path, os.O_RDONLY)  # takes the number that became free
    folder.close()
    os.fstat(reused)
    os.close(reused)


def test_a_folder_that_could_not_be_made_is_made_on_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Spool(tmp_path, min_free_bytes=0).folder("local", "a1")
    with monkeypatch.context() as patched:
        patched.setattr(spool_module, "sync_directory", refused_by_the_disk)
        with pytest.raises(NoCapacity):
            folder.begin()
    assert folder.begin().finish().path.exists()


def test_a_folder_that_another_has_made_is_synced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spool" / "local").mkdir(parents=True)
    synced = recorded_syncs(monkeypatch)
    spool = Spool(tmp_path / "spool", min_free_bytes=0)
    spool.folder("local", "a1").begin().finish()
    assert {tmp_path, tmp_path / "spool", tmp_path / "spool" / "local"} <= set(synced)
    synced.clear()
    spool.folder("local", "a2").begin().finish()
    assert tmp_path / "spool" not in synced


def test_the_servers_folders_and_their_parents_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = recorded_syncs(monkeypatch)
    (tmp_path / "made-before").mkdir()
    for data in (tmp_path / "made-before", tmp_path / "new" / "data"):
        synced.clear()
        with occupy(Config(data_dir=data)) as place:
            assert data.parent in synced
            assert data in synced  # for the store in it
            synced.clear()
            Spool(place.results, min_free_bytes=0)
            assert data in synced


def test_the_disk_is_looked_at_again_while_a_large_object_comes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, min_free_bytes=0)
    incoming = spool.folder("local", "a1").begin()
    spool._min_free_bytes = 1 << 60
    for _ in range(16):
        incoming.write(bytes(1 << 20))
    with pytest.raises(NoCapacity, match="bytes of disk are free"):
        incoming.write(bytes(1 << 20))
    incoming.discard()


@pytest.mark.parametrize("piece", [100, 1 << 20])
def test_an_object_larger_than_allowed_is_refused_and_leaves_nothing(tmp_path: Path, piece: int) -> None:
    spool = Spool(tmp_path, min_free_bytes=0, max_object_bytes=1 << 20)
    incoming = spool.folder("local", "a1").begin()
    for _ in range((1 << 20) // piece):
        incoming.write(bytes(piece))

    def one_more() -> None:
        incoming.write(bytes(piece))
        incoming.finish()

    with pytest.raises(TooLarge, match="1048576 bytes"):
        one_more()
    incoming.discard()
    assert files_below(tmp_path) == []


def recorded_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every folder or file that is synced from now on."""
    synced: list[Path] = []
    fsync = os.fsync

    def record(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", record)
    return synced


def refused_by_the_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")

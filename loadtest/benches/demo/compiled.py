"""The demonstration's store: compiled once, taken again as long as nothing it comes from has changed."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.server import fill_store

_ROOT = Path(__file__).resolve().parents[3]
_SOURCES = ("models", "object_store", "planner")


def is_compiled(store: Path, pipelines: Sequence[str]) -> bool:
    """Whether `store` was filled with these pipelines by these sources."""
    stamp = _stamp_file(store)
    return stamp.exists() and stamp.read_text() == _stamp(pipelines)


def compile_and_promote(store: Path, pipelines: Sequence[str]) -> None:
    """Compile, check and promote for the tenant `local`; remember from what. Raises: ServerFailed."""
    fill_store(store, pipelines, tenants={"local": pipelines})
    _stamp_file(store).write_text(_stamp(pipelines))


def _stamp_file(store: Path) -> Path:
    return store.with_name(store.name + ".sources")


def _stamp(pipelines: Sequence[str]) -> str:
    """SHA-256 over the Python version, the names and every file that compiling reads or runs."""
    digest = hashlib.sha256(repr((sys.version_info[:3], tuple(pipelines))).encode())
    for package in _SOURCES:
        for path in sorted((_ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

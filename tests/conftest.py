"""Fixtures every area uses: where the real data is, and how a missing thing is said."""

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def absent(what: str) -> None:
    """Skip with one sentence; in CI, where everything must be there, fail with it."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing may be skipped: {what}")
    pytest.skip(what)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real DICOM series and networks beside the project."""
    if not SHARED_DATA.is_dir():
        absent("needs the real data in ../shared/data beside the project")
    return SHARED_DATA


def program(name: str, package: str, *, folder: str = "/usr/bin") -> str:
    """The full path of a Debian program (pynetdicom's own would hide it on PATH)."""
    path = shutil.which(name, path=f"{folder}:/usr/bin:/usr/sbin")
    if path is None:
        absent(f"needs {name}: apt-get install {package}")
    assert path is not None
    return path

"""Fixtures every area uses: where the real data is, and how a missing thing is said."""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from models.phantom import Phantom
    from object_store.opening import Store

# No deadlines: a shared machine is slow at times. And CI judges a change, not the luck of a draw: there every
# run tries the same examples, elsewhere each its own.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure, however it was asked for."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, reason = "failed", report.longrepr
        said = reason[2] if isinstance(reason, tuple) else reason
        report.longrepr = f"in CI nothing may be skipped: {said}"
    return report


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


def printed(code: str, *arguments: str) -> str:
    """What a Python program prints that runs in a process of its own, in the repository, and ends well."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def store(tmp_path: Path) -> Iterator["Store"]:
    """A store of the test's own, which checks what it reads."""
    from object_store.opening import open_store

    with open_store(tmp_path / "store", verify_on_read=True) as opened:
        yield opened


CLASSICAL = ("ct-lungs", "ct-bones", "ct-body")
"""The bundled pipelines that need no weights."""


@pytest.fixture(scope="session")
def compiled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the classical pipelines compiled and promoted for tenant `local`."""
    from loadtest.server import lightbox

    store = tmp_path_factory.mktemp("compiled") / "store"
    lightbox("compile", *CLASSICAL, "--no-measure", "--store", str(store))
    lightbox("promote", *CLASSICAL, "--skip-check", "--store", str(store))
    return store


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> "Phantom":
    """A small chest phantom with its ground truth."""
    from models.phantom import PhantomSpec, make_phantom

    return make_phantom(PhantomSpec(seed=11, slices=40, rows=160, columns=160, spacing_mm=(8.0, 2.24, 2.24)))


@pytest.fixture(scope="session")
def phantom_folder(phantom: "Phantom", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as a CT series."""
    from models.phantom import write_dicom

    folder = tmp_path_factory.mktemp("phantom")
    write_dicom(phantom, folder)
    return folder

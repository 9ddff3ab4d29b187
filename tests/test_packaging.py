"""What a release is made of agrees with itself: dependencies, pins, their reasons, the licence."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = sorted(REPOSITORY.glob("requirements*.txt"), key=lambda file: len(file.read_text(encoding="utf-8")))
"""The requirements files, the smallest (runtime) first."""


def pins(file: Path) -> dict[str, Requirement]:
    """Name -> what one requirements file pins; hashes left out."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.split("--hash")[0].strip() for line in text.splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def declared(*lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for group in lines for r in map(Requirement, group)}


EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
NEEDS = {
    "requirements.txt": declared(PROJECT["dependencies"], EXTRAS["planner"]),
    "requirements-test.txt": declared(PROJECT["dependencies"], EXTRAS["planner"], EXTRAS["test"]),
    "requirements-bench.txt": declared(
        PROJECT["dependencies"], EXTRAS["planner"], EXTRAS["test"], EXTRAS["bench"]
    ),
}


def test_every_requirements_file_is_checked_here() -> None:
    assert {file.name for file in PINNED} == NEEDS.keys()


@pytest.mark.parametrize("file", PINNED, ids=lambda file: file.name)
def test_every_requirement_has_one_exact_version_and_a_hash(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    loose = [line for line in lines if not re.match(r"^\S+==[^\s*]+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert loose == []


@pytest.mark.parametrize("file", PINNED, ids=lambda file: file.name)
def test_a_requirements_file_names_no_host_and_no_folder(file: Path) -> None:
    assert re.findall(r"\S*(?:://| @ |--\w*index|--find-links)\S*", file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", PINNED, ids=lambda file: file.name)
def test_the_pinned_versions_are_within_the_declared_ranges(file: Path) -> None:
    pinned = pins(file)
    outside = {
        name: str(requirement)
        for name, requirement in NEEDS[file.name].items()
        if name not in pinned
        or not requirement.specifier.contains(next(iter(pinned[name].specifier)).version)
    }
    assert outside == {}


def test_a_larger_requirements_file_keeps_every_version_of_the_smaller() -> None:
    for smaller, larger in pairwise(PINNED):
        more = pins(larger)
        moved = {
            name: str(pin) for name, pin in pins(smaller).items() if pin.specifier != more[name].specifier
        }
        assert moved == {}, f"{larger.name} against {smaller.name}"


def test_the_smallest_file_pins_what_builds_and_compiles_and_nothing_that_trains_or_is_optional() -> None:
    names = pins(REPOSITORY / "requirements.txt").keys()
    assert "setuptools" in names  # --no-build-isolation finds it there
    assert "onnx" in names  # `make demo` and the image compile
    assert names & {"torch", "openvino", "onnx-ir", "pytest", "locust"} == set()


@pytest.mark.parametrize("extra", ["test", "bench"])
def test_tests_and_benches_have_what_compiles_and_the_second_engine(extra: str) -> None:
    assert declared(EXTRAS["planner"], EXTRAS["openvino"]).keys() <= declared(EXTRAS[extra]).keys()


def test_torch_is_in_no_hashed_file() -> None:
    assert [file.name for file in PINNED if "torch" in pins(file)] == []


def test_every_dependency_has_its_reason_and_its_version_in_the_documentation() -> None:
    text = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    rows = [row for row in cells if len(row) == 5 and row[0].startswith("`")]
    assert all(all(row) for row in rows)
    documented = {canonicalize_name(row[0].strip("`")): row[1] for row in rows}
    pinned = pins(REPOSITORY / "requirements-bench.txt")
    expected = {
        name: next(iter(pinned[name].specifier)).version if name in pinned else "2.13.0"  # torch: see there
        for name in declared(PROJECT["dependencies"], *EXTRAS.values(), ["setuptools"])
    }
    assert documented == expected


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert text.lstrip().startswith("Apache License\n")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"

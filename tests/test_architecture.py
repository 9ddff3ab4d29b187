"""Imports point one way, heavy libraries stay where they are used, and what is imported is declared."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

MAY_IMPORT: dict[str, set[str]] = {
    "models": set(),
    "object_store": set(),
    "planner": {"models", "object_store"},
    "serving": {"models", "object_store", "planner"},
    "loadtest": set(),  # loadtest/benches aside
}
BENCHES = "loadtest/benches/"

ONLY_IN: dict[str, tuple[str, ...]] = {
    "fastapi": ("serving/",),
    "starlette": ("serving/",),
    "uvicorn": ("serving/",),
    "uvloop": ("serving/",),
    "pynetdicom": ("serving/", "loadtest/"),  # loadtest sends as any modality does
    "torch": ("models/training/", "models/importers/"),
    "onnx": ("models/training/", "models/importers/", "planner/networks/", "planner/numeric/"),
    "onnx_ir": ("models/training/", "models/importers/"),
    "onnxruntime": ("models/engines/", "models/training/", "planner/networks/", "planner/numeric/"),
    "openvino": ("models/engines/",),
    "locust": ("loadtest/",),
    "gevent": ("loadtest/",),
    "httpx": ("loadtest/",),
    "dicomweb_client": ("loadtest/",),
    "nibabel": ("loadtest/", "models/training/"),
}
WITH_EXTRAS = (
    "models/training/",
    "models/importers/",
    "models/engines/openvino.py",
    "planner/networks/",
    "planner/numeric/",
    "loadtest/",
)
"""Folders that may need an extra; all others run on the runtime dependencies alone."""

PART_OF = {
    "starlette": "fastapi",
    "anyio": "fastapi",
    "pydantic_core": "pydantic",
    "jpeg_ls": "highdicom",
    "google": "onnx",  # protobuf
}
"""Libraries that another one brings and shows in its own interface."""

ONLY_INSIDE_FUNCTIONS = {"highdicom"}  # 1.4 s and 194 MB: whoever encodes a SEG pays, nobody else
HEAVY = {"highdicom", "onnxruntime", "openvino", "scipy", "pynetdicom", "fastapi", "torch", "onnx", "PIL"}
LIGHT_MODULES = [
    "models",
    "models.values",
    "models.errors",
    "models.operators.base",
    "object_store",
    "planner",
    "planner.plan",
    "planner.binding",
    "planner.execute",
    "planner.resources",
    "planner.ways",
    *(
        f"planner.networks.{name}"
        for name in ("records", "structure", "keeping", "joint", "running.load", "running.together")
    ),
    "serving",
    "serving.config",
    "serving.cli.main",
    "loadtest",
]


def modules(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def place(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


def imported_by(node: ast.AST, file: Path) -> Iterator[str]:
    """Dotted names that one statement or call imports; relative ones made absolute."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, level=level, names=names):
            parents = file.relative_to(REPOSITORY).parts[:-level] if level else ()
            base = ".".join([*parents, *([module] if module else [])])
            yield from (f"{base}.{alias.name}" for alias in names)
        case ast.Call(
            func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield name


def all_imports(file: Path, text: str | None = None) -> set[str]:
    """Everything the file (or `text` in its place) imports, inside functions and for type checking too."""
    tree = ast.parse(file.read_text(encoding="utf-8") if text is None else text)
    return {name for node in ast.walk(tree) for name in imported_by(node, file)}


def top_level_imports(file: Path) -> set[str]:
    """What importing the file imports at once: not in functions, not under TYPE_CHECKING."""

    def walk(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            yield from imported_by(node, file)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from walk(node.orelse)
                continue
            for field in ("body", "orelse", "finalbody"):
                yield from walk(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from walk(handler.body)

    return set(walk(ast.parse(file.read_text(encoding="utf-8")).body))


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("text", "imported"),
    [
        ("import serving.config as c", "serving.config"),
        ("def f():\n    from serving import config", "serving.config"),
        ("from . import base", "models.operators.base"),
        ("from ..values import Volume", "models.values.Volume"),
        ("importlib.import_module('torch.nn')", "torch.nn"),
    ],
)
def test_no_way_of_importing_goes_unseen(text: str, imported: str) -> None:
    assert all_imports(REPOSITORY / "models" / "operators" / "new.py", text) == {imported}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    upward = {
        place(file): sorted(found)
        for file in modules(package)
        if not place(file).startswith(BENCHES)
        and (found := roots(all_imports(file)) & MAY_IMPORT.keys() - allowed)
    }
    assert upward == {}


def test_nobody_imports_the_benches_or_the_tests() -> None:
    importing = {
        place(file): sorted(found)
        for package in MAY_IMPORT
        for file in modules(package)
        if not place(file).startswith(BENCHES)
        and (
            found := {
                name for name in all_imports(file) if f"{name}.".startswith(("loadtest.benches.", "tests."))
            }
        )
    }
    assert importing == {}


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_in_the_folders_that_are_about_it(library: str) -> None:
    strays = [
        place(file)
        for package in MAY_IMPORT
        for file in modules(package)
        if library in roots(all_imports(file)) and not place(file).startswith((*ONLY_IN[library], BENCHES))
    ]
    assert strays == []


@pytest.mark.parametrize("library", sorted(ONLY_INSIDE_FUNCTIONS))
def test_a_library_that_is_slow_to_import_is_imported_inside_functions_only(library: str) -> None:
    eager = [
        place(file)
        for package in MAY_IMPORT
        for file in modules(package)
        if library in roots(top_level_imports(file))
    ]
    assert eager == []


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_a_module_that_everybody_imports_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_what_is_imported_is_a_declared_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    extras = {
        canonicalize_name(Requirement(line).name)
        for lines in project["optional-dependencies"].values()
        for line in lines
    }
    distributions = packages_distributions()
    undeclared = {}
    for package in MAY_IMPORT:
        for file in modules(package):
            declared = runtime | extras if place(file).startswith(WITH_EXTRAS) else runtime
            foreign = roots(all_imports(file)) - MAY_IMPORT.keys() - sys.stdlib_module_names
            found = {
                name
                for name in foreign
                if not declared
                & {
                    canonicalize_name(d)
                    for d in distributions.get(PART_OF.get(name, name), [PART_OF.get(name, name)])
                }
            }
            if found:
                undeclared[place(file)] = sorted(found)
    assert undeclared == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_folder_with_modules_is_a_package(package: str) -> None:
    bare = sorted(
        {place(file.parent) for file in modules(package) if not (file.parent / "__init__.py").exists()}
    )
    assert bare == []


def test_no_module_is_named_after_nothing_in_particular() -> None:
    vague = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
    found = [
        place(file)
        for package in MAY_IMPORT
        for file in modules(package)
        if vague & {file.stem, file.parent.name}
    ]
    assert found == []

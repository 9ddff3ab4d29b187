"""A pool that was warmed up for a plan imports nothing while it computes."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from models.operators.registry import OPERATORS
from object_store.errors import ObjectCorrupt
from object_store.opening import open_store
from planner.resources import StoreResources

HEAVY = frozenset({"scipy", "highdicom", "pydicom"})
"""What kernels import when they first run. (Networks are built, and their runtime imported, by digest.)"""

Place = tuple[str, str]
"""A module of ours and a top-level name in it."""


@cache
def parsed(module: str) -> tuple[dict[str, ast.AST], dict[str, Place]]:
    """What a module defines, and what it takes from others of ours."""
    tree = ast.parse(Path(import_module(module).__file__ or "").read_text(encoding="utf-8"))
    defines: dict[str, ast.AST] = {
        node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    takes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("models.")
        for alias in node.names
        if node.module
    }
    return defines, takes


def uses(place: Place) -> Iterator[Place]:
    """What of ours the code at this place speaks of."""
    defines, takes = parsed(place[0])
    for node in ast.walk(defines.get(place[1], ast.Module([], []))):
        if isinstance(node, ast.Name):
            if node.id in defines:
                yield place[0], node.id
            elif node.id in takes:
                yield takes[node.id]


def imports(place: Place) -> set[str]:
    """The packages that the code at this place imports when it runs."""
    nodes = list(ast.walk(parsed(place[0])[0].get(place[1], ast.Module([], []))))
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in named}


def reached(place: Place) -> set[Place]:
    seen, waiting = {place}, [place]
    while waiting:
        new = set(uses(waiting.pop())) - seen
        seen |= new
        waiting += new
    return seen


@pytest.mark.parametrize("word", sorted(OPERATORS))
def test_an_operator_names_every_heavy_package_that_its_kernel_imports(word: str) -> None:
    operator = OPERATORS[word]
    places = reached((operator.__module__, operator.__name__))
    places |= {(base.__module__, base.__name__) for base in operator.__mro__ if base is not object}
    needed = {package for place in places for package in imports(place)} & HEAVY
    assert needed == {name.partition(".")[0] for name in operator.imports}


@pytest.mark.parametrize("word", sorted(OPERATORS))
def test_whatever_an_operator_names_can_be_imported(word: str) -> None:
    for name in OPERATORS[word].imports:
        import_module(name)


def test_a_network_with_a_damaged_bit_is_not_computed_with(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        digest = store.objects.put(b"a graph and its weights")
    (path,) = (path for path in (tmp_path / "objects").rglob("*") if path.is_file())
    path.chmod(0o644)
    path.write_bytes(b"a graph and its weighty")
    for load in (StoreResources(tmp_path).network, StoreResources(tmp_path).parameters):
        with pytest.raises(ObjectCorrupt):
            load(str(digest))

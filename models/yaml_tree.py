"""YAML with every value's file and line kept, so that an error far from the parser can still say where.

Only what pipelines need: mappings with text keys, lists, and plain scalars (null, bool, int, float, text).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from models.errors import PipelineError

Scalar: TypeAlias = str | int | float | bool | None

_MAX_DEPTH = 32
"""Deeper than any pipeline; an alias that contains itself ends here."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One value of a file: a scalar, a list of trees or a mapping to trees. line counts from 1."""

    value: "Scalar | tuple[Tree, ...] | dict[str, Tree]"
    file: str
    line: int

    def __getitem__(self, key: str) -> "Tree":
        """The entry of a mapping. Raises KeyError."""
        if not isinstance(self.value, dict):
            raise KeyError(key)
        return self.value[key]

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def items(self) -> Iterator[tuple[str, "Tree"]]:
        """Entries of a mapping; none for anything else."""
        if isinstance(self.value, dict):
            yield from self.value.items()

    def plain(self) -> Any:
        """Without lines: JSON values."""
        if isinstance(self.value, dict):
            return {key: tree.plain() for key, tree in self.value.items()}
        if isinstance(self.value, tuple):
            return [tree.plain() for tree in self.value]
        return self.value

    def locate(self, dotted: str) -> "Tree":
        """The tree at a dotted key, or the nearest one above it (where something is missing)."""
        tree, rest = self, dotted
        while rest:
            if isinstance(tree.value, dict):
                # A key may itself hold dots: take the longest that fits.
                fitting = [k for k in tree.value if rest == k or rest.startswith(f"{k}.")]
                if not fitting:
                    break
                key = max(fitting, key=len)
                tree, rest = tree.value[key], rest[len(key) + 1 :]
            elif isinstance(tree.value, tuple):
                index, _, rest = rest.partition(".")
                if not index.isdigit() or int(index) >= len(tree.value):
                    break
                tree = tree.value[int(index)]
            else:
                break
        return tree


def read_tree(path: Path) -> Tree:
    """The file as a tree. Raises PipelineError with the line for bad YAML, duplicate keys and odd values."""
    file = str(path)
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PipelineError(f"cannot be read: {error.strerror}", file=file) from error
    except UnicodeDecodeError as error:
        raise PipelineError("is not UTF-8 text", file=file) from error
    except yaml.YAMLError as error:
        raise PipelineError("holds characters that YAML does not allow", file=file) from error
    try:
        node = loader.get_single_node()
        if node is None:
            raise PipelineError("is empty", file=file)
        return _tree(loader, node, file, 0, "")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise PipelineError(f"is not YAML: {error.problem or error.context}", file=file, line=line) from error
    finally:
        loader.dispose()


def _tree(loader: yaml.SafeLoader, node: yaml.Node, file: str, depth: int, key: str) -> Tree:
    line = node.start_mark.line + 1
    if depth > _MAX_DEPTH:
        raise PipelineError("is nested too deeply", file=file, line=line, key=key)
    if isinstance(node, yaml.MappingNode):
        return Tree(_mapping(loader, node, file, depth, key), file, line)
    if isinstance(node, yaml.SequenceNode):
        inside = (_tree(loader, n, file, depth + 1, f"{key}.{i}") for i, n in enumerate(node.value))
        return Tree(tuple(inside), file, line)
    try:
        value = loader.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as error:
        raise PipelineError(
            "holds a value of a kind that is not allowed", file=file, line=line, key=key
        ) from error
    if value is not None and not isinstance(value, str | int | float | bool):
        raise PipelineError(
            f"is read as a {type(value).__name__}; put it in quotes", file=file, line=line, key=key
        )
    return Tree(value, file, line)


def _mapping(
    loader: yaml.SafeLoader, node: yaml.MappingNode, file: str, depth: int, above: str
) -> dict[str, Tree]:
    entries: dict[str, Tree] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise PipelineError("a key must be a text", file=file, line=line, key=above)
        key = str(key_node.value)
        dotted = f"{above}.{key}" if above else key
        if key in entries:
            first = entries[key].line
            raise PipelineError(f"is there twice (first in line {first})", file=file, line=line, key=dotted)
        # The line of the key is what a reader looks for, not that of a block below it.
        entries[key] = replace(_tree(loader, value_node, file, depth + 1, dotted), line=line)
    return entries

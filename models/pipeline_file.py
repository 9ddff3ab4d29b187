"""A pipeline out of its YAML file: `extends` resolved, every key known, every error with file and line.

Keys: pipeline, version, title, description, research_use_only, extends, input, steps, outputs, golden, gate.
A step is `name: {op: WORD, of: STEP or [STEPS], parameters ...}`. With `extends: NAME or FILE`, given keys
win: mappings are merged, lists are replaced, a step that names an `op` is replaced as a whole, `~` removes.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from models.contract import Contract
from models.errors import PipelineError
from models.golden import GoldenCase, golden_case
from models.operators.base import Operator
from models.operators.parameters import checked_value, construct
from models.pipeline import Gate, Output, Pipeline, Step, check
from models.yaml_tree import Tree, read_tree

ZOO = Path(__file__).parent / "zoo"
"""The bundled pipelines, found by their bare names."""

KEYS = (
    "pipeline",
    "version",
    "title",
    "description",
    "research_use_only",
    "input",
    "steps",
    "outputs",
    "golden",
    "gate",
)


class Vocabulary(Protocol):
    """Operators by the word a pipeline file uses (a Mapping is one)."""

    def __getitem__(self, word: str, /) -> type[Operator]: ...


def bundled_pipelines() -> tuple[str, ...]:
    """Names of the pipelines that come with the package, sorted."""
    return tuple(sorted(path.stem for path in ZOO.glob("*.yaml")))


def pipeline_path(name_or_file: str, *, beside: Path | None = None) -> Path:
    """Where the pipeline is: a file (relative to `beside`), or a bundled one by its bare name.

    Raises: PipelineError if there is neither.
    """
    if "/" not in name_or_file and not name_or_file.endswith((".yaml", ".yml")):
        bundled = ZOO / f"{name_or_file}.yaml"
        if bundled.is_file():
            return bundled
        known = ", ".join(bundled_pipelines()) or "none"
        raise PipelineError(f"there is no bundled pipeline '{name_or_file}' (known: {known})")
    path = Path(name_or_file) if beside is None else beside / name_or_file
    if not path.is_file():
        raise PipelineError("there is no such file", file=str(path))
    return path


def read_pipeline(path: Path, operators: Vocabulary | None = None) -> Pipeline:
    """The pipeline in this file, checked.

    operators: the words it may use; default: all of models.operators.registry.
    Raises: PipelineError naming file, line and key.
    """
    if operators is None:
        from models.operators.registry import OPERATORS

        operators = OPERATORS
    tree = _extended(path, ())
    try:
        pipeline = _pipeline(tree, operators)
        check(pipeline)
    except PipelineError as error:
        raise _moved(error, tree) from error
    return pipeline


def located(error: PipelineError, path: Path) -> PipelineError:
    """What was found wrong with the pipeline of this file later on, saying in which file and line its key is.

    Raises: PipelineError, if the file can no longer be read.
    """
    return error if error.file else _moved(error, _extended(path, ()))


def _moved(error: PipelineError, tree: Tree) -> PipelineError:
    """The same error, saying in which file and line its key is."""
    at = tree.locate(error.key)
    return PipelineError(error.message, file=at.file, line=at.line, key=error.key)


def _extended(path: Path, below: tuple[Path, ...]) -> Tree:
    """The file's tree merged over those it extends."""
    tree = read_tree(path)
    if not isinstance(tree.value, dict):
        raise PipelineError("a pipeline is a mapping of keys to values", file=tree.file, line=tree.line)
    if "extends" not in tree:
        return tree
    parent = tree["extends"].value
    if not isinstance(parent, str):
        raise _moved(PipelineError("must name a pipeline or a file", key="extends"), tree)
    chain = (*below, path.resolve())
    try:
        parent_path = pipeline_path(parent, beside=path.parent)
    except PipelineError as error:
        raise _moved(PipelineError(f"{parent}: {error.message}", key="extends"), tree) from error
    if parent_path.resolve() in chain:
        raise _moved(PipelineError(f"'{parent}' extends this pipeline in turn", key="extends"), tree)
    own = replace(tree, value={key: value for key, value in tree.items() if key != "extends"})
    return _merged(_extended(parent_path, chain), own, ())


def _merged(parent: Tree, child: Tree, keys: tuple[str, ...]) -> Tree:
    if not isinstance(parent.value, dict) or not isinstance(child.value, dict):
        return child
    if len(keys) == 2 and keys[0] == "steps" and "op" in child:
        return child
    entries = dict(parent.value)
    for key, value in child.items():
        if value.value is None and len(keys) < 2 and (len(keys) == 1 or key == "golden"):
            if key not in entries:
                dotted = ".".join((*keys, key))
                raise PipelineError(
                    "there is nothing to remove", file=value.file, line=value.line, key=dotted
                )
            del entries[key]
        else:
            entries[key] = _merged(entries[key], value, (*keys, key)) if key in entries else value
    return Tree(entries, child.file, child.line)


def _pipeline(tree: Tree, operators: Vocabulary) -> Pipeline:
    for key in tree.plain():
        if key not in KEYS:
            raise PipelineError(f"is not a key of a pipeline (known: {', '.join(KEYS)}, extends)", key=key)
    text = partial(_value, tree, str)
    return Pipeline(
        name=text("pipeline"),
        version=text("version"),
        title=text("title"),
        description=text("description", default=""),
        research_use_only=_value(tree, bool, "research_use_only", default=True),
        contract=_construct(Contract, tree["input"].plain() if "input" in tree else {}, "input"),
        steps=tuple(_step(name, step, operators) for name, step in _entries(tree, "steps")),
        outputs=tuple(_output(name, output) for name, output in _entries(tree, "outputs")),
        golden=_golden(tree["golden"]) if "golden" in tree else (),
        gate=_construct(Gate, tree["gate"].plain() if "gate" in tree else {}, "gate"),
    )


def _step(name: str, tree: Tree, operators: Vocabulary) -> Step:
    key = f"steps.{name}"
    if not isinstance(tree.value, dict):
        raise PipelineError("must be a mapping with `op` and `of`", key=key)
    word = _value(tree, str, "op", above=key)
    try:
        operator_class = operators[word]
    except KeyError:
        known = f" (known: {', '.join(sorted(operators))})" if isinstance(operators, Mapping) else ""
        raise PipelineError(f"there is no operator '{word}'{known}", key=f"{key}.op") from None
    if "of" not in tree:
        raise PipelineError("is missing: which step does it read?", key=f"{key}.of")
    of = tree["of"].plain()
    inputs = (of,) if isinstance(of, str) else checked_value(tuple[str, ...], of, f"{key}.of")
    parameters = {k: v.plain() for k, v in tree.items() if k not in ("op", "of")}
    for file_key in operator_class.file_parameters:
        if parameters.get(file_key) and isinstance(parameters[file_key], str):
            parameters[file_key] = _file(tree[file_key], f"{key}.{file_key}")
    return Step(name=name, operator=_construct(operator_class, parameters, key), inputs=inputs)


def _output(name: str, tree: Tree) -> Output:
    key = f"outputs.{name}"
    if not isinstance(tree.value, dict):
        raise PipelineError("must be a mapping", key=key)
    if "name" in tree:
        raise PipelineError("is not a setting here", key=f"{key}.name")
    output: Output = _construct(Output, {"name": name, **tree.plain()}, key)
    return output


def _golden(tree: Tree) -> tuple[GoldenCase, ...]:
    if not isinstance(tree.value, tuple):
        raise PipelineError("must be a list of cases", key="golden")
    return tuple(_golden_case(item, f"golden.{number}") for number, item in enumerate(tree.value))


def _golden_case(tree: Tree, key: str) -> GoldenCase:
    if not isinstance(tree.value, dict):
        raise PipelineError("must be a mapping", key=key)
    fields = tree.plain()
    if isinstance(fields.get("input"), str):
        fields["input"] = _file(tree["input"], f"{key}.input", folder=True)
    if "expect" in tree:
        for name, expected in tree["expect"].items():
            if "label_map" in expected and isinstance(expected["label_map"].value, str):
                where = f"{key}.expect.{name}.label_map"
                fields["expect"][name]["label_map"] = _file(expected["label_map"], where)
    try:
        return golden_case(fields)
    except PipelineError as error:
        raise PipelineError(error.message, key=f"{key}.{error.key}" if error.key else key) from error


def _file(tree: Tree, key: str, *, folder: bool = False) -> str:
    """The absolute path of a file named in the YAML, relative to it; a digest stays as it is."""
    named = str(tree.value)
    if named.startswith("sha256:"):
        return named
    path = (Path(tree.file).parent / named).resolve()
    if not (path.is_dir() if folder else path.is_file()):
        kind = "folder" if folder else "file"
        raise PipelineError(f"there is no {kind} '{named}' beside the pipeline", key=key)
    return str(path)


def _entries(tree: Tree, key: str) -> list[tuple[str, Tree]]:
    if key not in tree:
        raise PipelineError("is missing", key=key)
    if not isinstance(tree[key].value, dict):
        raise PipelineError("must be a mapping of names", key=key)
    return list(tree[key].items())


_REQUIRED = object()


def _value(tree: Tree, kind: type[Any], key: str, *, above: str = "", default: Any = _REQUIRED) -> Any:
    dotted = f"{above}.{key}" if above else key
    if key in tree:
        return checked_value(kind, tree[key].plain(), dotted)
    if default is _REQUIRED:
        raise PipelineError("is missing", key=dotted)
    return default


def _construct(cls: type[Any], fields: Any, key: str) -> Any:
    if not isinstance(fields, Mapping):
        raise PipelineError("must be a mapping", key=key)
    try:
        return construct(cls, fields)
    except PipelineError as error:
        raise PipelineError(error.message, key=f"{key}.{error.key}" if error.key else key) from error

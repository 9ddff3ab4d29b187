"""JSON and YAML values to the fields of a dataclass, checked against its annotations.

Understood: str, int, float, bool, None, Literal, tuple[X, ...], tuple[X, Y], X | None, Any and dataclasses.
An int is taken for a float (and becomes one, so that equal settings have equal identities); a bool is
never a number; lists become tuples.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from models.errors import PipelineError


def checked_fields(cls: type[Any], mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the dataclass `cls` out of plain values.

    Raises: PipelineError whose key is that of the unknown, missing or wrong value (dotted where nested).
    """
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in mapping:
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise PipelineError(f"is not a setting here (known: {known})", key=str(key))
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    checked = {key: checked_value(hints[key], value, key) for key, value in mapping.items()}
    for name, field in fields.items():
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if no_default and name not in checked:
            raise PipelineError("is missing", key=name)
    return checked


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    """Evaluated once for each class: with hundreds of plans to read it is most of the work."""
    return typing.get_type_hints(cls)


def construct(cls: type[Any], mapping: Mapping[str, Any]) -> Any:
    """The dataclass `cls` with these plain values; what its `__post_init__` refuses is a PipelineError too.

    The key of that error is the field whose name its message begins with, if any.
    """
    fields = checked_fields(cls, mapping)
    try:
        return cls(**fields)
    except ValueError as error:
        first_word, _, rest = str(error).partition(" ")
        if (name := first_word.rstrip(":")) in fields:
            raise PipelineError(rest, key=name) from error
        raise PipelineError(str(error)) from error


def checked_value(hint: Any, value: Any, key: str) -> Any:
    """`value` as the annotation `hint` wants it. Raises PipelineError with `key`."""
    origin = get_origin(hint)
    if origin is Literal:
        return _choice(get_args(hint), value, key)
    if origin is Union or origin is types.UnionType:
        return _either(get_args(hint), value, key)
    if origin is tuple:
        return _tuple(get_args(hint), value, key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise PipelineError(f"must be a mapping, not {_said(value)}", key=key)
        try:
            return construct(hint, value)
        except PipelineError as error:
            raise PipelineError(error.message, key=f"{key}.{error.key}" if error.key else key) from error
    return _scalar(hint, value, key)


def _scalar(hint: Any, value: Any, key: str) -> Any:
    if hint is Any:
        return value
    if hint is None or hint is type(None):
        if value is not None:
            raise PipelineError(f"must be empty, not {_said(value)}", key=key)
        return None
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise PipelineError("must be a finite number", key=key)
        return float(value)
    if hint in (str, int, bool) and type(value) is hint:
        return value
    if isinstance(hint, type) and issubclass(hint, str) and isinstance(value, str):
        return _member(hint, value, key)
    wanted = _WORDS.get(hint, str(hint))
    raise PipelineError(f"must be {wanted}, not {_said(value)}", key=key)


def _member(hint: type[str], value: str, key: str) -> Any:
    """A StrEnum's member."""
    try:
        return hint(value)
    except ValueError as error:
        raise PipelineError(str(error), key=key) from error


def _choice(choices: tuple[Any, ...], value: Any, key: str) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    listed = ", ".join(str(choice) for choice in choices)
    raise PipelineError(f"must be one of {listed}, not {_said(value)}", key=key)


def _either(choices: tuple[Any, ...], value: Any, key: str) -> Any:
    if value is None and type(None) in choices:
        return None
    rest = tuple(choice for choice in choices if choice is not type(None))
    # An int stays one where int | float is meant.
    exact = [choice for choice in rest if choice is type(value)]
    errors = []
    for choice in (*exact, *rest):
        try:
            return checked_value(choice, value, key)
        except PipelineError as error:
            errors.append(error)
    raise errors[-1] if len(rest) == 1 else PipelineError(f"cannot be {_said(value)}", key=key)


def _tuple(kinds: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise PipelineError(f"must be a list, not {_said(value)}", key=key)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise PipelineError(f"must have {len(kinds)} items, not {len(value)}", key=key)
    items = zip(kinds, value, strict=True)
    return tuple(checked_value(kind, item, f"{key}.{index}") for index, (kind, item) in enumerate(items))


_WORDS = {
    str: "a text (quote it)",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _said(value: Any) -> str:
    """How an error message says a value."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"'{value}'"

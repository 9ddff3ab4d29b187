"""What the files that `lightbox network add` is given are called, in the store and to the person."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

MODEL = "model"
"""What so many exporters call the file that its folder's name says more."""


def names_of(files: Iterable[Path]) -> dict[Path, str]:
    """By file, the name of its network: the file's own, of a `model.onnx` its folder's; lower case."""
    return {
        file: (file.resolve().parent.name if file.stem.lower() == MODEL else file.stem).lower()
        for file in files
    }


def same_names(names: Mapping[Path, str]) -> str:
    """A sentence about the first name that several of these files would have; empty if there is none."""
    for name, number in Counter(names.values()).items():
        if number > 1:
            files = [str(file) for file, other in names.items() if other == name]
            told = ", ".join(files[:3]) + (f" and {number - 3} more" if number > 3 else "")
            count = _WORDS.get(number, number)
            return f"{count} files would be called '{name}': {told}; add them one by one with --name"
    return ""


_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}


def why_no_file(file: Path) -> tuple[str, str]:
    """(reason, sentence) why this cannot be a network's file; empty words if it may be one."""
    if file.is_dir():
        return "folder", "is a folder"
    if file.exists():
        return "", ""
    if any(sign in str(file) for sign in "*?["):
        return "missing-data", "there is no file of such a name"
    return "missing-data", "there is no such file"


def said_files(files: Iterable[Path]) -> dict[Path, str]:
    """By file, how to speak of it: by its name, or by the path given where several have that name."""
    given = tuple(files)
    often = Counter(file.name for file in given)
    return {file: str(file) if often[file.name] > 1 or not file.name else file.name for file in given}

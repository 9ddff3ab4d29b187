"""Why a network is not taken, or not opened. Every error carries a reason that a program can compare."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from planner.errors import PlannerError

_OPAQUE = "a pipeline can still run such a file, closed to the planner (opaque): lightbox compile"

ADVICE: Mapping[str, str] = {
    "unknown-opset": "export again with opset 11 or a later one that is opened",
    "control-flow": _OPAQUE,
    "custom-operator": _OPAQUE,
    "random": _OPAQUE,
    "sequence": _OPAQUE,
    "data-type": _OPAQUE,
    "no-shape": _OPAQUE,
    "not-understood": _OPAQUE,
    "canonical-differs": _OPAQUE,
    "folder": "give the files in it",
}
"""What to do about a network that was not taken, by the reason; others say it themselves."""


class NetworkRefused(Exception):
    """No network that could ever run: corrupt, hostile, or against the standard.

    reason: a word such as `truncated`, `path-traversal`, `cycle`, `absurd-shape`, `too-large`, `not-onnx`.
    """

    def __init__(self, file: str | Path, reason: str, message: str) -> None:
        super().__init__(f"{Path(file).name}: {message} ({reason})")
        self.reason = reason
        self.message = message


class NotOpenable(Exception):
    """A network that runs but that the planner cannot see into; it stays one opaque stage.

    reason: a word such as `control-flow`, `custom-operator`, `unknown-opset`, `canonical-differs`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason})")
        self.reason = reason


class NameTaken(PlannerError):
    """A name under which another network was added. network: its digest."""

    def __init__(self, name: str, network: str) -> None:
        self.name, self.network = name, network
        told = network.removeprefix("sha256:")[:12]
        super().__init__(
            f"the name '{name}' stands for another network, {told}; --move lets it stand for this"
        )


class NetworkDamaged(PlannerError):
    """Parts of networks are gone from the store, or damaged. whose: a sentence for each."""

    def __init__(self, whose: Iterable[str]) -> None:
        self.whose = tuple(whose)
        super().__init__(
            f"the store is damaged: {'; '.join(self.whose)}; "
            "`lightbox network add` with the file of that network puts it back"
        )


MANY_INPUTS = 4
"""A guess: more than that, and some of a network's inputs are learned numbers that got lost."""


def said_inputs(names: Sequence[str]) -> str:
    """The inputs of a network that nothing gives a value, in a few words."""
    if len(names) <= MANY_INPUTS:
        return ", ".join(name[:60] for name in names)
    few = ", ".join(name[:60] for name in names[:3])
    return (
        f"{len(names)} inputs without values ({few} and {len(names) - 3} more; "
        "did an optimiser drop initialisers?)"
    )

"""Why a network is not taken, or not opened. Every error carries a reason that a program can compare."""

from pathlib import Path


class NetworkRefused(Exception):
    """No network that could ever run: corrupt, hostile, or against the standard.

    reason: a word such as `truncated`, `path-traversal`, `cycle`, `absurd-shape`, `too-large`, `not-onnx`.
    """

    def __init__(self, file: str | Path, reason: str, message: str) -> None:
        super().__init__(f"{Path(file).name}: {message} ({reason})")
        self.reason = reason


class NotOpenable(Exception):
    """A network that runs but that the planner cannot see into; it stays one opaque stage.

    reason: a word such as `control-flow`, `custom-operator`, `unknown-opset`, `canonical-differs`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason})")
        self.reason = reason

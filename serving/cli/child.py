"""Run a module of loadtest in a process of its own: it is a client like any other, and never imported."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn

import typer

from serving.cli.output import fail


def run_module(module: str, arguments: Sequence[str]) -> NoReturn:
    """Run `python -m module` to its end and leave with its exit code; signals are passed on to it."""
    if find_spec(module.partition(".")[0]) is None:
        fail(f"{module} is not installed here; it comes with the source of Lightbox")
    child = subprocess.Popen([sys.executable, "-m", module, *arguments])

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
    code = child.wait()
    raise typer.Exit(code if code >= 0 else 128 - code)

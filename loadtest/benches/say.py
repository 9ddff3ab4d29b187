"""Progress lines on stderr: coloured on a terminal, plain otherwise."""

import sys
import time
from collections.abc import Callable
from typing import TypeAlias

from rich.console import Console

Say: TypeAlias = Callable[[str], None]
"""Tell a person what happens now, in one line."""


def progress_lines() -> Say:
    """A function that writes `[  12.3 s] text` to stderr; seconds count from now."""
    console = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[{time.monotonic() - began:6.1f} s] {text}")

    return say

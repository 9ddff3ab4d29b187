"""`lightbox bench`: measure this machine; the measuring itself is a child process."""

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.child import run_module


def bench_command(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="Benchmarks by name; `all` of them, `list` them, `report` writes the page.",
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and smaller inputs.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write figures, bars and machine here.")
    ] = None,
) -> None:
    """Measure Lightbox beside a baseline. Exit code 1 if a bar does not hold, 2 if a benchmark cannot run."""
    if names == ["report"]:
        run_module("loadtest.report", context.args)
    arguments = [*names, *context.args]
    if quick:
        arguments.append("--quick")
    if json_file is not None:
        arguments += ["--json", str(json_file)]
    run_module("loadtest.benches", arguments)

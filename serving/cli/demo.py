"""`lightbox demo`: CT series in, segmentations out; a child process plays modality and reader."""

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.child import run_module
from serving.cli.output import fail


def demo_command(
    dicom: Annotated[
        Path | None, typer.Option("--dicom", metavar="FOLDER", help="A CT series of yours, sent as well.")
    ] = None,
    stay: Annotated[bool, typer.Option("--stay", help="Keep the server up until Ctrl-C.")] = False,
    folder: Annotated[Path, typer.Option("--folder", help="Where data and results go.")] = Path(
        "lightbox-demo"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Start a server on free loopback ports, send it made-up chest CTs and yours, show what comes back.

    Exit code 1 if a job fails or a mask is far from what is known to be there. Research use only.
    """
    arguments = ["--folder", str(folder)]
    if dicom is not None:
        if not dicom.is_dir():
            fail(f"{dicom} is not a folder")
        arguments += ["--dicom", str(dicom)]
    if stay:
        arguments.append("--stay")
    if as_json:
        arguments.append("--json")
    run_module("loadtest.benches.demo", arguments)

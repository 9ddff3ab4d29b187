"""`lightbox send`: give DICOM files to a server, by C-STORE or by STOW-RS."""

from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli.client import KeyOption
from serving.cli.output import NO, JsonFlag, command_errors, fail, print_json, print_line, progress


def send_command(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="HOST:PORT", help="By C-STORE, to this address.")
    ] = None,
    called: Annotated[str, typer.Option("--aet", metavar="AE", help="The receiver's AE title.")] = "LIGHTBOX",
    calling: Annotated[
        str, typer.Option("--calling", metavar="AE", help="Our own AE title.")
    ] = "LIGHTBOX-SEND",
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="By STOW-RS, to this server.")
    ] = None,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Send files as a modality does. Exit code 1 if some were not stored."""
    from serving.dicom.sending import NotSent, Sent, find_files, read_file, send_by_cstore, send_by_stow
    from serving.errors import RequestError

    if (to is None) == (url is None):
        fail("say where to: either --to HOST:PORT (C-STORE) or --url URL (STOW-RS)")
    files, skipped, outcomes = [], list[Sent](), list[Sent]()
    with command_errors():
        for path in find_files(paths):
            try:
                files.append(read_file(path))
            except RequestError as error:
                skipped.append(Sent(path, -1, error.message))
        if not files:
            fail("there is no DICOM file to send")
        with progress("sending", len(files)) as sent:

            def done(outcome: Sent) -> None:
                outcomes.append(outcome)
                sent("")

            try:
                if to is not None:
                    host, port = _address(to)
                    send_by_cstore(files, host, port, called=called, calling=calling, done=done)
                elif url is not None:
                    send_by_stow(files, url, api_key=api_key, done=done)
            except NotSent as error:
                fail(f"{error} ({len(outcomes)} of {len(files)} files sent)")
    _report(outcomes, skipped, as_json)


def _address(to: str) -> tuple[str, int]:
    host, _, port = to.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        fail(f"--to: '{to}' is no HOST:PORT")
    return host.strip("[]"), int(port)


def _report(outcomes: list[Any], skipped: list[Any], as_json: bool) -> None:
    refused = [outcome for outcome in outcomes if outcome.status]
    if as_json:
        said = [{"path": str(one.path), "status": one.status, "message": one.message} for one in refused]
        left = [{"path": str(one.path), "message": one.message} for one in skipped]
        print_json({"stored": len(outcomes) - len(refused), "refused": said, "skipped": left})
    else:
        for one in (*refused, *skipped):
            print_line(f"{one.path}: {one.message}")
        print_line(f"{len(outcomes) - len(refused)} stored, {len(refused)} refused, {len(skipped)} skipped")
    if refused:
        raise typer.Exit(NO)

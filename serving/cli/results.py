"""`lightbox results`: fetch the DICOM objects of jobs into a folder."""

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.client import Client, KeyOption, UrlOption
from serving.cli.output import NO, JsonFlag, command_errors, print_json, print_line, progress


def results_command(
    jobs: Annotated[
        list[str] | None, typer.Argument(help="Jobs to fetch from.  [default: all completed]")
    ] = None,
    folder: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where files go.")] = Path("results"),
    study: Annotated[str | None, typer.Option(help="Only of this Study Instance UID.")] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write every result as DIR/JOB-OUTPUT.dcm. Exit code 1 if there are none."""
    with command_errors():
        client = Client(url, api_key)
        if jobs:
            found = [client.json(f"/api/jobs/{job}") for job in jobs]
        else:
            found = client.json("/api/jobs", state="COMPLETED", study=study)
        wanted = [(job["id"], result["output"]) for job in found for result in job["results"]]
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        with progress("results", len(wanted)) as fetched:
            for job, output in wanted:
                path = folder / f"{job}-{output}.dcm"
                path.write_bytes(client.bytes(f"/api/jobs/{job}/results/{output}"))
                written.append({"job": job, "output": output, "path": str(path)})
                fetched(output)
        if as_json:
            print_json(written)
        else:
            for one in written:
                print_line(one["path"])
        if not written:
            raise typer.Exit(NO)

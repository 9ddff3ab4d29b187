"""`lightbox serve`: run the server until it is told to stop."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli.configured import choose_config, configuration
from serving.cli.output import JsonFlag, command_errors, fail, print_line


def serve_command(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="A TOML file; see deploy/.  [default: lightbox --config]"
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take studies and answer with segmentations, until SIGTERM or Ctrl-C.

    Every setting may also come from the environment (LIGHTBOX_DATA_DIR, LIGHTBOX_HTTP__PORT ...). With
    neither file nor environment: loopback ports, data under ./lightbox-data.
    """
    with command_errors():
        if config is not None:
            choose_config(config)
        settings = configuration()
        logging.basicConfig(
            level=settings.log_level,
            stream=sys.stderr,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        # The fork server imports for its children while this process imports for itself.
        from serving.processes import start_fork_server

        context = start_fork_server()
        from serving.jobs.database import JournalError
        from serving.server import serve

        def on_ready(addresses: dict[str, Any]) -> None:
            dimse = addresses["dimse"]
            if as_json:
                sys.stdout.write(json.dumps(addresses) + "\n")
            else:
                print_line(
                    f"Lightbox is ready: {addresses['http']}, "
                    f"DICOM {dimse['ae_title']} at {dimse['host']}:{dimse['port']}, "
                    f"data in {settings.data_dir}"
                )
            sys.stdout.flush()

        try:
            serve(settings, context, on_ready)
        except JournalError as error:
            fail(str(error))

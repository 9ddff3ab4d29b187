"""Which configuration a command goes by: `lightbox --config FILE COMMAND`, LIGHTBOX_CONFIG, or none."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.output import fail

if TYPE_CHECKING:
    from serving.config import Config

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="LIGHTBOX_CONFIG",
        help="The server's TOML file, which says where data, store and server are.",
    ),
]

_chosen: list[Path] = []
"""The file that this run of the program goes by, if any."""


def choose_config(path: Path | None) -> None:
    """Let this run of the program go by this file."""
    _chosen[:] = [] if path is None else [path]


def configuration() -> "Config":
    """What the chosen file and the environment say. Raises: ConfigError."""
    from serving.config import load_config

    return load_config(_chosen[0] if _chosen else None)


def check_tenant(name: str, *, configured: bool) -> None:
    """Leave with one sentence if no tenant can be called so; or, if `configured`, if none there is."""
    from serving.config import TENANT_NAME

    if not re.fullmatch(TENANT_NAME, name):
        fail(f"--tenant: '{name}' is no tenant's name, which is of a-z, 0-9, '-' and '_', 63 at most")
    if configured:
        known = [tenant.name for tenant in configuration().tenants]
        if name not in known:
            fail(f"--tenant: the configuration has no tenant '{name}', but {', '.join(known)}")

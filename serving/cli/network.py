"""`lightbox network add|list`: networks by themselves, without a pipeline."""

from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli.output import (
    NO,
    JsonFlag,
    StoreOption,
    command_errors,
    fail,
    opened_store,
    print_json,
    print_line,
    print_table,
    progress,
    said_bytes,
    short,
)


def add_command(
    files: Annotated[list[Path], typer.Argument(help="ONNX files.", metavar="FILE...")],
    name: Annotated[
        str | None, typer.Option(help="What to call it, for one file.  [default: the file's name]")
    ] = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take networks into the store and show what each shares. Exit code 1 if one could not be taken."""
    if name is not None and len(files) > 1:
        fail("--name is for one file; several are called as their files are")
    with command_errors(), opened_store(store) as opened:
        from models.pipeline import NAME
        from planner.networks.errors import NetworkRefused, NotOpenable
        from planner.networks.families.known import add_network

        called = {file: name or file.stem for file in files}
        for wrong in (word for word in called.values() if not NAME.fullmatch(word.lower())):
            fail(f"'{wrong}' is no name for a network: letters, digits, '-' and '_', 63 at most; give --name")
        rows: list[dict[str, Any]] = []
        with progress("networks", len(files)) as step:
            for file in files:
                row: dict[str, Any] = {"file": str(file), "name": called[file].lower()}
                try:
                    done = add_network(opened, file, called[file].lower())
                except (NetworkRefused, NotOpenable) as error:
                    rows.append({**row, "error": str(error)})
                else:
                    rows.append(
                        {
                            **row,
                            "network": str(done.network),
                            "family": str(done.family),
                            "new_family": done.new_base,
                            "kept": dict(done.kept),
                            "bytes_added": done.bytes_added,
                        }
                    )
                step(file.name)
        if as_json:
            print_json(rows)
        else:
            _print_added(rows)
        if any("error" in row for row in rows):
            raise typer.Exit(NO)


def list_command(store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """List the networks in the store, families together."""
    with command_errors(), opened_store(store) as opened:
        import msgspec

        from planner.networks.families.known import known_networks

        known = known_networks(opened)
        if as_json:
            print_json([msgspec.to_builtins(network) for network in known])
            return
        rows = [
            (
                short(network.family),
                short(network.network) if network.network != network.family else "(base)",
                ", ".join(network.names) or "-",
                ", ".join(network.pipelines) or "-",
                _said_kept(network.kept),
                "yes" if network.exact else "verified" if network.verified else "to be verified",
            )
            for network in known
        ]
        print_table(("family", "network", "name", "pipelines", "differs in", "exact"), rows)


def _print_added(rows: list[dict[str, Any]]) -> None:
    taken = [row for row in rows if "error" not in row]
    print_table(
        ("name", "network", "family", "", "differs in", "added>"),
        [
            (
                row["name"],
                short(str(row["network"])),
                short(str(row["family"])),
                "new" if row["new_family"] else "joined",
                _said_kept(row["kept"]),
                said_bytes(row["bytes_added"]),
            )
            for row in taken
        ],
    )
    for row in rows:
        if "error" in row:
            print_line(f"not taken: {row['error']}")
    added = sum(row["bytes_added"] for row in taken)
    print_line(f"{len(taken)} networks, {said_bytes(added)} added")


def _said_kept(kept: dict[str, int]) -> str:
    """`3 scaled, 12 lifted`, or - for nothing."""
    return ", ".join(f"{number} {how.replace('_', '-')}" for how, number in kept.items() if number) or "-"

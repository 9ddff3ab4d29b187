"""`lightbox network add|list`: networks by themselves, without a pipeline."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli.network_files import names_of, said_files, same_names, why_no_file
from serving.cli.output import (
    NO,
    JsonFlag,
    StoreOption,
    command_errors,
    counted,
    fail,
    opened_store,
    print_json,
    print_line,
    print_table,
    progress,
    said_bytes,
    short,
)

if TYPE_CHECKING:
    from object_store.opening import Store


def add_command(
    files: Annotated[list[Path], typer.Argument(help="ONNX files.", metavar="FILE...")],
    name: Annotated[
        str | None,
        typer.Option(
            help="What to call it, if it is one file; else the file's name, of model.onnx the folder's."
        ),
    ] = None,
    move: Annotated[
        bool, typer.Option("--move", help="Let names stand for these networks that stood for others.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take networks into the store and show what each shares. Exit code 1 if one could not be taken.

    A network that is like one in the store joins its family: what is equal is kept once, and what differs is
    lifted (small tensors, given with each run), scaled, low-rank or sparse (the base's numbers with a
    difference), or stored (in full). Adding a file again puts back what the store has lost of its network.
    """
    files = list(dict.fromkeys(files))
    if name is not None and len(files) > 1:
        fail("--name is for one file; several are called as their files are")
    with command_errors(), opened_store(store) as opened:
        from models.pipeline import NAME

        there = [file for file in files if not why_no_file(file)[0]]
        called = names_of(files) if name is None else {file: name.lower() for file in files}
        for wrong in (called[file] for file in there if not NAME.fullmatch(called[file])):
            fail(f"'{wrong}' is no name for a network: letters, digits, '-' and '_', 63 at most; give --name")
        if same := same_names({file: called[file] for file in there}):
            fail(same)
        said = said_files(files)
        with progress("networks", len(files)) as step:
            rows = []
            for file in files:
                rows.append(
                    {
                        "file": str(file),
                        "name": called[file],
                        **_added(opened, file, said[file], called[file], move),
                    }
                )
                step(called[file])
        if as_json:
            print_json(rows)
        else:
            _print_added(rows)
        if any("error" in row for row in rows):
            raise typer.Exit(NO)


def _added(store: "Store", file: Path, said: str, name: str, move: bool) -> dict[str, Any]:
    """What came of one file; `error`, and `reason` where there is a word for it, if it was not taken."""
    from planner.names import exact_name, network_name
    from planner.networks.errors import NameTaken, NetworkDamaged, NetworkRefused, NotOpenable
    from planner.networks.families.differing import until_verified_bytes
    from planner.networks.families.known import add_network
    from planner.networks.keeping import NetworkReader

    reason, sentence = why_no_file(file)
    if reason:
        return {"error": f"{said}: {sentence} ({reason})", "reason": reason}
    before = store.names.get(network_name(name))
    try:
        done = add_network(store, file, name, move=move)
    except NetworkRefused as error:
        return {"error": f"{said}: {error.message} ({error.reason})", "reason": error.reason}
    except NotOpenable as error:
        return {"error": f"{said}: {error}", "reason": error.reason}
    except (NameTaken, NetworkDamaged) as error:
        return {
            "error": f"{said}: {error}",
            "reason": "name-taken" if isinstance(error, NameTaken) else "damaged",
        }
    exact = store.names.get(exact_name(done.network.sha256))
    reader = NetworkReader(store.objects, store.names)
    return {
        **({"moved_from": str(before)} if before not in (None, done.network) else {}),
        "network": str(done.network),
        "family": str(done.family),
        "new_family": done.new_base,
        "kept": dict(done.kept),
        "bytes_added": done.bytes_added,
        "bytes_until_verified": until_verified_bytes(reader, exact),
        "inputs": len(reader.structure(done.network).inputs),
    }


def list_command(store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """List the networks in the store, families together."""
    with command_errors(), opened_store(store, must_exist=True) as opened:
        import msgspec

        from planner.networks.families.known import known_networks

        known = known_networks(opened)
        if as_json:
            print_json([msgspec.to_builtins(network) for network in known])
            return
        rows = [
            (
                short(network.family),
                short(network.network),
                ", ".join(network.names) or "-",
                ", ".join(network.pipelines) or "-",
                "(base)" if network.network == network.family else _said_kept(network.kept),
                "yes" if network.exact else "verified" if network.verified else "to be verified",
            )
            for network in known
        ]
        if not known:
            print_line("no networks")
            return
        print_table(("family", "network", "name", "pipelines", "differs in", "exact"), rows)
        _explain([network.kept for network in known])
        print_line(
            "exact: whether it computes with the imported numbers; if not, promotion compares its outputs"
        )


def _print_added(rows: list[dict[str, Any]]) -> None:
    from planner.networks.errors import MANY_INPUTS

    taken = [row for row in rows if "error" not in row]
    if taken:
        print_table(
            ("name", "network", "family", "", "differs in", "added>", "of it until verified>"),
            [
                (
                    row["name"],
                    short(row["network"]),
                    short(row["family"]),
                    _said_how(row),
                    "(base)" if row["network"] == row["family"] else _said_kept(row["kept"]),
                    said_bytes(row["bytes_added"]),
                    said_bytes(until)
                    if (until := row["bytes_until_verified"]) and row["bytes_added"]
                    else "-",
                )
                for row in taken
            ],
        )
    for row in taken:
        if "moved_from" in row:
            print_line(f"'{row['name']}' stood for {short(row['moved_from'])} before")
        if row["inputs"] > MANY_INPUTS:
            print_line(
                f"{row['name']} has {row['inputs']} inputs without values, and a pipeline feeds one; "
                "did an optimiser drop initialisers?"
            )
    refused = [row for row in rows if "error" in row]
    for row in refused:
        print_line(f"not taken: {row['error']}")
    _print_advice({row["reason"] for row in refused})
    if not taken:
        print_line("nothing was added")
        return
    added = sum(row["bytes_added"] for row in taken)
    print_line(f"{counted(len(taken), 'network')}, {said_bytes(added)} added")
    _explain([row["kept"] for row in taken if row["network"] != row["family"]])
    if any(row["bytes_until_verified"] and row["bytes_added"] for row in taken):
        print_line(
            "until verified: what gives back the imported numbers to the last bit; "
            "promotion verifies and drops it"
        )


def _said_how(row: dict[str, Any]) -> str:
    if row["new_family"]:
        return "new"
    return "joined" if row["bytes_added"] else "was there"


def _print_advice(reasons: set[str]) -> None:
    from planner.networks.errors import ADVICE

    by_advice: dict[str, list[str]] = {}
    for reason in sorted(reasons & ADVICE.keys()):
        by_advice.setdefault(ADVICE[reason], []).append(reason)
    for advice, words in by_advice.items():
        print_line(f"{', '.join(words)}: {advice}")


_MEANS = {
    "lifted": "small tensors of its own, given to the family's stage with each run",
    "scaled": "the base's filters with a factor per channel",
    "low_rank": "the base's filters plus a product of two thin matrices",
    "sparse": "the base's filters but for a few numbers",
    "stored": "large tensors of its own, kept in full",
}


def _explain(kept: Iterable[Mapping[str, int]]) -> None:
    """A line for each way of differing that the table shows."""
    shown = {how for one in kept for how in one}
    for how, meaning in _MEANS.items():
        if how in shown:
            print_line(f"{how.replace('_', '-')}: {meaning}")


def _said_kept(kept: Mapping[str, int]) -> str:
    """`3 scaled, 12 lifted`, or - for nothing."""
    return ", ".join(f"{number} {how.replace('_', '-')}" for how, number in kept.items() if number) or "-"

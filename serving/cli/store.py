"""`lightbox store ls|verify|gc`: looking after the object store."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from serving.cli.output import (
    NO,
    JsonFlag,
    StoreOption,
    command_errors,
    counted,
    opened_store,
    print_json,
    print_line,
    print_table,
    progress,
    said_bytes,
    short,
)

if TYPE_CHECKING:
    from object_store.digest import Digest
    from planner.networks.families.known import ForgottenNetwork


def ls_command(
    prefix: Annotated[str, typer.Argument(help="Only names that begin with this.")] = "",
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the names in the store and what they stand for."""
    with command_errors(), opened_store(store, must_exist=True) as opened:
        names = opened.names.items(prefix)
        if as_json:
            print_json({name: str(digest) for name, digest in names.items()})
            return
        rows = [(name, short(str(digest)), said_bytes(digest.size)) for name, digest in names.items()]
        print_table(("name", "digest", "size>"), rows)


def verify_command(store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Read and hash every object, and look for those that are gone. Exit code 1 if one is damaged or gone."""
    with command_errors(), opened_store(store, must_exist=True) as opened:
        from object_store.collect import verify
        from planner.networks.families.lost import damaged_networks, lost_objects

        total = sum(1 for _ in opened.objects)
        with progress("reading objects", total) as step:
            findings = list(verify(opened.objects, checked=lambda digest: step("")))
        damaged = [{"digest": str(f.digest), "problem": str(f.problem)} for f in findings]
        unsound = {finding.digest for finding in findings}

        def sound(digest: "Digest") -> bool:
            return digest not in unsound and digest in opened.objects

        gone = lost_objects(opened, opened.names.roots(), sound) - unsound
        damaged += [{"digest": str(digest), "problem": "gone"} for digest in sorted(gone, key=str)]
        networks = damaged_networks(opened, sound)
        if as_json:
            told = [{"network": n.sha256, "names": n.names, "lost": list(map(str, n.lost))} for n in networks]
            print_json({"objects": total, "findings": damaged, "networks": told})
        else:
            for finding in damaged:
                print_line(f"{finding['digest']} is {finding['problem']}")
            print_line(f"{counted(total, 'object')}, {len(damaged)} damaged or gone")
            for network in networks:
                print_line(f"{network}: `lightbox network add` with its file puts it back")
        if damaged:
            raise typer.Exit(NO)


def gc_command(
    older_than_s: Annotated[
        float, typer.Option(metavar="SECONDS", help="Spare what was brought within so many seconds.")
    ] = 3600.0,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be deleted.")] = False,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Forget networks that no plan and no name uses, and delete what no name leads to."""
    with command_errors(), opened_store(store, must_exist=True) as opened:
        from object_store.collect import collect_garbage
        from planner.networks.families.known import forget_networks, forgettable
        from planner.references import references

        found = forgettable(opened, older_than_s)
        gone = {network.network for network in found.networks}
        if not dry_run:
            gone = set(forget_networks(opened, older_than_s))
        forgotten = [network for network in found.networks if network.network in gone]
        done = collect_garbage(
            opened.objects,
            opened.names,
            references,
            older_than_s,
            dry_run=dry_run,
            without=found.names if dry_run else (),
        )
        if as_json:
            print_json(
                {
                    "kept": done.kept,
                    "spared": done.spared,
                    "deleted": [str(digest) for digest in done.deleted],
                    "deleted_bytes": done.deleted_bytes,
                    "abandoned_files": done.abandoned_files,
                    "forgotten_networks": sorted(gone),
                    "forgotten": [msgspec.to_builtins(network) for network in forgotten],
                    "dry_run": dry_run,
                }
            )
            return
        verb = "would delete" if dry_run else "deleted"
        print_line(
            f"{verb} {counted(len(done.deleted), 'object')} ({said_bytes(done.deleted_bytes)}), "
            f"kept {done.kept}, spared {done.spared} that are young"
        )
        if gone:
            done_so = "would be forgotten" if dry_run else "forgotten"
            print_line(f"{counted(len(gone), 'network')} {done_so}, as no plan and no name uses them:")
            print_table(("network", "family", ""), [_said_forgotten(network) for network in forgotten])


def _said_forgotten(network: "ForgottenNetwork") -> tuple[str, str, str]:
    alone = network.family == network.network
    family = short(network.family) + (f" ({', '.join(network.family_names)})" if network.family_names else "")
    before = ", ".join(network.names_before)
    return (
        short(network.network),
        "(base)" if alone else family,
        f"was called {before}, which is another network now" if before else "",
    )

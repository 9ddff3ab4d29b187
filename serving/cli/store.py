"""`lightbox store ls|verify|gc`: looking after the object store."""

from typing import Annotated

import typer

from serving.cli.output import (
    NO,
    JsonFlag,
    StoreOption,
    command_errors,
    opened_store,
    print_json,
    print_line,
    print_table,
    progress,
    said_bytes,
    short,
)


def ls_command(
    prefix: Annotated[str, typer.Argument(help="Only names that begin with this.")] = "",
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the names in the store and what they stand for."""
    with command_errors(), opened_store(store) as opened:
        names = opened.names.items(prefix)
        if as_json:
            print_json({name: str(digest) for name, digest in names.items()})
            return
        rows = [(name, short(str(digest)), said_bytes(digest.size)) for name, digest in names.items()]
        print_table(("name", "digest", "size>"), rows)


def verify_command(store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Read and hash every object. Exit code 1 if one is damaged."""
    with command_errors(), opened_store(store) as opened:
        from object_store.collect import verify

        total = sum(1 for _ in opened.objects)
        with progress("reading objects", total) as step:
            findings = list(verify(opened.objects, checked=lambda digest: step("")))
        damaged = [{"digest": str(f.digest), "problem": str(f.problem)} for f in findings]
        if as_json:
            print_json({"objects": total, "findings": damaged})
        else:
            for finding in damaged:
                print_line(f"{finding['digest']} is {finding['problem']}")
            print_line(f"{total} objects, {len(damaged)} of them not as they should be")
        if damaged:
            raise typer.Exit(NO)


def gc_command(
    older_than_s: Annotated[float, typer.Option(help="Spare what was put in the last seconds.")] = 3600.0,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be deleted.")] = False,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete what no name leads to."""
    with command_errors(), opened_store(store) as opened:
        from object_store.collect import collect_garbage
        from planner.networks.families.known import forget_networks
        from planner.references import references

        forgotten = () if dry_run else forget_networks(opened, older_than_s)
        done = collect_garbage(opened.objects, opened.names, references, older_than_s, dry_run=dry_run)
        if as_json:
            print_json(
                {
                    "kept": done.kept,
                    "spared": done.spared,
                    "deleted": [str(digest) for digest in done.deleted],
                    "deleted_bytes": done.deleted_bytes,
                    "abandoned_files": done.abandoned_files,
                    "forgotten_networks": list(forgotten),
                    "dry_run": dry_run,
                }
            )
            return
        verb = "would delete" if dry_run else "deleted"
        print_line(
            f"{verb} {len(done.deleted)} objects ({said_bytes(done.deleted_bytes)}), "
            f"kept {done.kept}, spared {done.spared} that are young"
        )
        if forgotten:
            print_line(f"{len(forgotten)} networks that no plan and no name used were forgotten")

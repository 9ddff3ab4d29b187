"""`lightbox diff`: what differs between two pipelines."""

import json
from typing import TYPE_CHECKING, Annotated

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
)

if TYPE_CHECKING:
    from object_store.opening import Store
    from planner.plan import Plan

_WHICH = "A compiled pipeline, a YAML file, a bundled pipeline or the digest of a plan."


def diff_command(
    before: Annotated[str, typer.Argument(metavar="A", help=_WHICH)],
    after: Annotated[str, typer.Argument(metavar="B", help=_WHICH)],
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show every setting that differs between two pipelines. Exit code 1 if there is one."""
    with command_errors(), opened_store(store) as opened:
        from planner.diff import differences

        found = differences(_plan(opened, before), _plan(opened, after))
        if as_json:
            print_json([{"key": d.key, "before": d.before, "after": d.after} for d in found])
        elif not found:
            print_line("no difference")
        else:
            rows = [(d.key, _said(d.before), _said(d.after)) for d in found]
            print_table(("setting", before, after), rows)
        if found:
            raise typer.Exit(NO)


def _plan(store: "Store", named: str) -> "Plan":
    from models.pipeline_file import pipeline_path, read_pipeline
    from object_store.digest import Digest
    from planner.compile import compiled_plan, make_plan
    from planner.errors import UnknownPipeline
    from planner.plan import stored_plan

    if named.startswith("sha256:"):
        return stored_plan(store, Digest.parse(named))
    try:
        return compiled_plan(store, named)[1]
    except UnknownPipeline:
        return make_plan(store, read_pipeline(pipeline_path(named)))


def _said(value: object) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)

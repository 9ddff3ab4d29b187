"""`lightbox diff`: what differs between two pipelines, their networks included."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
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
    short,
)

if TYPE_CHECKING:
    from object_store.opening import Store
    from planner.networks.compared import NetworkDifference
    from planner.plan import Plan

_SHOWN = 40
"""Tensors in a table, those with the most differing numbers first."""

_WHICH = "A compiled pipeline, a YAML file, a bundled pipeline or the digest of a plan."


def diff_command(
    before: Annotated[str, typer.Argument(metavar="A", help=_WHICH)],
    after: Annotated[str, typer.Argument(metavar="B", help=_WHICH)],
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show every setting that differs between two pipelines. Exit code 1 if there is one."""
    with command_errors(), opened_store(store) as opened:
        from planner.networks.compared import network_difference
        from planner.reports.diff import differences, other_networks

        ours, theirs = _plan(opened, before), _plan(opened, after)
        found = differences(ours, theirs)
        networks = {
            step: network_difference(opened, *pair) for step, pair in other_networks(ours, theirs).items()
        }
        if as_json:
            settings = [{"key": d.key, "before": d.before, "after": d.after} for d in found]
            print_json(settings + [row for step, network in networks.items() for row in _rows(step, network)])
        elif not found:
            print_line("no difference")
        else:
            rows = [(d.key, _said(d.before), _said(d.after)) for d in found]
            print_table(("setting", before, after), rows)
            for step, network in networks.items():
                _print_network(step, network)
        if found:
            raise typer.Exit(NO)


def _rows(step: str, network: "NetworkDifference") -> list[dict[str, Any]]:
    """What differs within a network, as settings of the step."""
    key = f"steps.{step}.graph"
    structure = [{"key": f"{key}.{d.what}", "before": d.before, "after": d.after} for d in network.structure]
    tensors = [{"key": f"{key}.{tensor.name}", **msgspec.to_builtins(tensor)} for tensor in network.tensors]
    return structure + tensors


def _print_network(step: str, network: "NetworkDifference") -> None:
    title = f"\nnetwork of {step}: {short(network.before)} against {short(network.after)}"
    if network.why:
        print_line(f"{title}: {network.why}")
    elif network.structure:
        rows = [(d.what, d.before, d.after) for d in network.structure]
        print_table(("structure", "before", "after"), rows, title=f"{title}, structures differ")
    else:
        tensors = sorted(network.tensors, key=lambda tensor: -tensor.differing)
        told = [
            (
                tensor.name,
                tensor.read_by,
                " x ".join(map(str, tensor.shape)),
                f"{tensor.differing} of {tensor.numbers}",
                f"{tensor.largest:.2g}",
            )
            for tensor in tensors[:_SHOWN]
        ]
        columns = ("tensor", "read by", "shape", "numbers that differ>", "largest, relative>")
        print_table(columns, told, title=f"{title}, one structure, {len(tensors)} tensors differ")
        if len(tensors) > _SHOWN:
            print_line(f"and {len(tensors) - _SHOWN} more; --json has all")


def _plan(store: "Store", named: str) -> "Plan":
    from models.pipeline_file import pipeline_path, read_pipeline
    from object_store.digest import Digest
    from planner.compile import make_plan
    from planner.errors import UnknownPipeline
    from planner.live import compiled_plan
    from planner.plan import stored_plan

    if named.startswith("sha256:"):
        return stored_plan(store, Digest.parse(named))
    try:
        return compiled_plan(store, named)[1]
    except UnknownPipeline:
        return make_plan(store, read_pipeline(pipeline_path(named)))


def _said(value: object) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)

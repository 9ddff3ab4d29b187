"""`lightbox diff`: what differs between two pipelines, their networks included, or between two networks."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
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
    short,
)

if TYPE_CHECKING:
    from planner.networks.compared import NetworkDifference
    from planner.plan import Plan
    from planner.reports.compared_sides import Sides

_SHOWN = 40
"""Tensors in a table, those with the most differing numbers first."""

_WHICH = (
    "A compiled pipeline, a bundled one, a YAML file, the digest of a plan; or a network of the store: its "
    "name given by `lightbox network add`, its digest or the first 6 or more digits."
)


def diff_command(
    before: Annotated[str, typer.Argument(metavar="A", help=_WHICH)],
    after: Annotated[str, typer.Argument(metavar="B", help=_WHICH)],
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show every setting that differs between two pipelines, or every tensor between two networks.

    A pipeline beside a network stands for the one network it runs. Nothing is added to the store.
    Exit code 1 if there is a difference.
    """
    with command_errors(), opened_store(store) as opened:
        from planner.reports.compared_sides import compared_sides

        with compared_sides(opened, before, after) as sides:
            if sides.plans is not None:
                differ = _diff_plans(sides, *sides.plans, before, after, as_json=as_json)
            else:
                differ = _diff_networks(sides, before, after, as_json=as_json)
        if differ:
            raise typer.Exit(NO)


def _diff_plans(
    sides: "Sides", ours: "Plan", theirs: "Plan", before: str, after: str, *, as_json: bool
) -> bool:
    """Whether there is a difference."""
    from planner.reports.diff import differences, other_networks

    found = differences(ours, theirs)
    networks = {step: sides.difference(*pair) for step, pair in other_networks(ours, theirs).items()}
    if as_json:
        settings = [{"key": d.key, "before": d.before, "after": d.after} for d in found]
        tensors = [row for step, one in networks.items() for row in _rows(one, f"steps.{step}.graph.")]
        print_json(settings + tensors)
    elif not found:
        print_line("no difference")
    else:
        rows = [(d.key, _said(d.before), _said(d.after)) for d in found]
        print_table(("setting", before, after), rows)
        for step, network in networks.items():
            _print_network(network, f"\nnetwork of {step}: ")
    return bool(found)


def _diff_networks(sides: "Sides", before: str, after: str, *, as_json: bool) -> bool:
    """Whether there is a difference."""
    networks: list[str] = []
    for name, choice in zip((before, after), sides.networks, strict=True):
        if len(choice) != 1:
            some = ", ".join(map(short, choice[:4])) or "none"
            fail(f"'{name}' stands for {len(choice)} networks ({some}), and one is compared: give its digest")
        networks += choice
    ours, theirs = networks
    if ours == theirs:
        if as_json:
            print_json([])
        else:
            print_line("no difference")
        return False
    found = sides.difference(ours, theirs)
    if as_json:
        print_json([{"key": "network", "before": ours, "after": theirs}, *_rows(found, "")])
    else:
        _print_network(found, "")
    return True


def _rows(network: "NetworkDifference", prefix: str) -> list[dict[str, Any]]:
    """What differs within a network, as settings whose keys begin so."""
    structure = [
        {"key": f"{prefix}{d.what}", "before": d.before, "after": d.after} for d in network.structure
    ]
    tensors = [{"key": f"{prefix}{tensor.name}", **msgspec.to_builtins(tensor)} for tensor in network.tensors]
    return structure + tensors


def _print_network(network: "NetworkDifference", heading: str) -> None:
    title = f"{heading}{short(network.before)} against {short(network.after)}"
    if network.why:
        print_line(f"{title}: {network.why}")
    elif network.structure:
        rows = [(d.what, d.before, d.after) for d in network.structure]
        print_line(f"{title}, structures differ")
        print_table(("structure", "before", "after"), rows)
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
        columns = ("tensor", "read by", "shape", "numbers that differ>", "largest change>")
        print_line(f"{title}, one structure, {len(tensors)} tensors differ")
        print_table(columns, told)
        if len(tensors) > _SHOWN:
            print_line(f"and {len(tensors) - _SHOWN} more; --json has all")
        print_line("largest change: of one number, as a share of the largest magnitude in the tensor")


def _said(value: object) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)

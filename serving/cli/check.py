"""`lightbox check`: run a pipeline's golden cases."""

from dataclasses import replace
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
    progress,
)

if TYPE_CHECKING:
    from planner.check import CheckReport
    from planner.networks.apart_child import Bounds


def check_command(
    pipelines: Annotated[list[str], typer.Argument(help="Names of compiled pipelines.")],
    deadline: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Stop a case that takes longer.  [default: 1800]"),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            min=1,  # with much less, libraries fail to load in ways of their own, or never end
            metavar="GIB",
            help="Stop a case that needs more.  [default: 3/4 of this machine's]",
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the golden cases of pipelines and record how they did.

    Exit code 1 if a number is off or a case had to be stopped. `lightbox promote` goes by what is recorded.
    """
    with command_errors(), opened_store(store) as opened:
        import msgspec

        from planner.check import check_plan
        from planner.live import compiled_plan

        bounds = _bounds(deadline, memory)
        plans = [compiled_plan(opened, name) for name in pipelines]
        with progress("golden cases", sum(len(plan.golden) for _, plan in plans)) as checked:
            reports = [
                check_plan(opened, digest, plan, checked=checked, bounds=bounds) for digest, plan in plans
            ]
        if as_json:
            print_json([{**msgspec.to_builtins(report), "passed": report.passed} for report in reports])
        else:
            for report in reports:
                _print_report(report)
        if not all(report.passed for report in reports):
            raise typer.Exit(NO)


def _bounds(deadline_s: float | None, memory_gib: float | None) -> "Bounds":
    """Of one case: the usual ones, with what was asked in their place."""
    from planner.golden_apart import CASE_BOUNDS

    usual = CASE_BOUNDS.here()
    return replace(
        usual,
        seconds=usual.seconds if deadline_s is None else deadline_s,
        bytes=usual.bytes if memory_gib is None else int(memory_gib * (1 << 30)),
    )


def _print_report(report: "CheckReport") -> None:
    if not report.findings:
        print_line(f"{report.pipeline}: has no golden cases")
        return
    rows = [
        (
            "ok" if finding.passed else "FAILED",
            finding.case,
            finding.output,
            finding.what,
            "nothing" if finding.measured is None else f"{finding.measured:.4g}",
            finding.required,
        )
        for finding in report.findings
    ]
    columns = ("", "case", "output", "what", "measured>", "required")
    print_table(columns, rows, title=f"{report.pipeline}: {'passed' if report.passed else 'FAILED'}")

"""`lightbox check`: run a pipeline's golden cases."""

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


def check_command(
    pipelines: Annotated[list[str], typer.Argument(help="Names of compiled pipelines.")],
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the golden cases of pipelines and record how they did. Exit code 1 if a number is off."""
    with command_errors(), opened_store(store) as opened:
        import msgspec

        from planner.check import check_plan
        from planner.live import compiled_plan

        plans = [compiled_plan(opened, name) for name in pipelines]
        with progress("golden cases", sum(len(plan.golden) for _, plan in plans)) as checked:
            reports = [check_plan(opened, digest, plan, checked=checked) for digest, plan in plans]
        if as_json:
            print_json([{**msgspec.to_builtins(report), "passed": report.passed} for report in reports])
        else:
            for report in reports:
                _print_report(report)
        if not all(report.passed for report in reports):
            raise typer.Exit(NO)


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

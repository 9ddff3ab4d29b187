"""`lightbox calibrate`: measure what stages cost on this machine again, or hold predictions against it."""

from typing import TYPE_CHECKING, Annotated, Any

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
    said_seconds,
    short,
)

if TYPE_CHECKING:
    from planner.calibration import Calibrated, Predicted

_REFERENCE = 128
"""Images of 512 x 512 that costs are shown for."""


def calibrate_command(
    pipelines: Annotated[list[str] | None, typer.Argument(help="Compiled pipelines; default: all.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Measure nothing anew: compare predictions with another series.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure the stages of pipelines again on this machine and bind them with what was found.

    With --check: exit code 1 if a stage needs more memory than may be reserved for it.
    """
    with command_errors(), opened_store(store) as opened:
        if check:
            from planner.calibration import predictions

            with progress("running stages") as step:
                predicted = predictions(opened, pipelines or (), measured=step)
            _say_predictions(predicted, as_json)
            return
        from planner.calibration import calibrate

        with progress("measuring stages") as step:
            done = calibrate(opened, pipelines or (), measured=step)
        if as_json:
            import msgspec

            stages: list[dict[str, Any]] = [msgspec.to_builtins(row) for row in done.stages]
            print_json({"binding": done.binding, "seconds": done.seconds, "stages": stages})
            return
        columns = ("stage", "pipelines", "time before>", "after>", "all cores>", "memory before>", "after>")
        print_table(
            columns, [_row(row) for row in done.stages], title=f"for {_REFERENCE} images of 512 x 512"
        )
        print_line(
            f"{len(done.stages)} stages in {said_seconds(done.seconds)}; binding {short(done.binding)}"
        )


def _row(row: "Calibrated") -> tuple[str, ...]:
    voxels = _REFERENCE * 512 * 512
    times = [
        said_seconds(cost.seconds(voxels)) + ("" if cost.measured else " (guess)")
        for cost in (row.before, row.after)
    ]
    faster = "-" if row.after.all_cores is None else f"{1 / row.after.all_cores:.1f}x"
    memory = [said_bytes(cost.peak_bytes(voxels)) for cost in (row.before, row.after)]
    return (row.name, _few(row.pipelines), *times, faster, *memory)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _say_predictions(predicted: "tuple[Predicted, ...]", as_json: bool) -> None:
    from planner.measuring.fit import within_margin

    short_of_memory = [p for p in predicted if not within_margin(p.predicted_peak_bytes, p.real_peak_bytes)]
    if as_json:
        import msgspec

        print_json([msgspec.to_builtins(row) for row in predicted])
    else:
        rows = [
            (
                row.name,
                said_seconds(row.predicted_s),
                said_seconds(row.real_s),
                _ratio(row.predicted_s, row.real_s),
                said_bytes(row.predicted_peak_bytes),
                said_bytes(row.real_peak_bytes),
                _ratio(row.predicted_peak_bytes, row.real_peak_bytes),
            )
            for row in predicted
        ]
        columns = ("stage", "time predicted>", "real>", "ratio>", "memory predicted>", "real>", "ratio>")
        print_table(columns, rows)
        total, real = sum(p.predicted_s for p in predicted), sum(p.real_s for p in predicted)
        print_line(f"all stages: {said_seconds(total)} predicted, {said_seconds(real)} real")
        for row in short_of_memory:
            print_line(f"{row.name} needs more memory than is reserved for it: run `lightbox calibrate`")
    if short_of_memory:
        raise typer.Exit(NO)


def _ratio(predicted: float, real: float) -> str:
    return f"{predicted / real:.2f}" if real else "-"

"""`lightbox calibrate`: measure what stages cost on this machine again, or hold predictions against it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli.output import (
    NO,
    JsonFlag,
    StoreOption,
    command_errors,
    few,
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
        bool,
        typer.Option(
            "--check",
            help="Change nothing: run the stages on a series that no cost was measured on, a generated chest "
            "CT of 96 images of 512 x 512, and hold predictions against it.",
        ),
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
        print_line(f"for {_REFERENCE} images of 512 x 512")
        print_table(columns, [_row(row) for row in done.stages])
        print_line("time: on one core; all cores: how many times as fast there; memory: the largest at once")
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
    return (row.name, few(row.pipelines), *times, faster, *memory)


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
        print_line(f"on {_said_series()}, which no cost was measured on")
        print_table(columns, rows)
        total, real = sum(p.predicted_s for p in predicted), sum(p.real_s for p in predicted)
        print_line(f"all stages: {said_seconds(total)} predicted, {said_seconds(real)} real")
        print_line(
            "ratio: predicted by real; the memory predicted, and a margin, is reserved while a stage runs"
        )
        for row in short_of_memory:
            print_line(f"{row.name} needs more memory than is reserved for it: run `lightbox calibrate`")
    if short_of_memory:
        raise typer.Exit(NO)


def _said_series() -> str:
    from planner.calibration import UNLIKE

    return f"a generated chest CT of {UNLIKE.slices} images of {UNLIKE.rows} x {UNLIKE.columns}"


def _ratio(predicted: float, real: float) -> str:
    return f"{predicted / real:.2f}" if real else "-"

"""`lightbox explain`: what is shared with whom, what each stage costs, and a picture of it."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.output import (
    JsonFlag,
    StoreOption,
    command_errors,
    few,
    opened_store,
    print_json,
    print_line,
    print_table,
    said_bytes,
    said_seconds,
    short,
)

if TYPE_CHECKING:
    from planner.reports.explain import Explanation


def explain_command(
    pipelines: Annotated[
        list[str] | None,
        typer.Argument(help="Compiled pipelines, or with --family also networks; default: all."),
    ] = None,
    family: Annotated[
        bool, typer.Option("--family", help="Show the families of networks, not the stages.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw it here.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Estimate for so many images of 512 x 512.")] = 128,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the stages of pipelines: shared with whom, estimated at what cost, and drawn as a picture."""
    with command_errors(), opened_store(store) as opened:
        if family:
            from serving.cli.families import explain_families

            explain_families(opened, pipelines or (), svg, as_json=as_json)
            return
        from planner.names import PLANS
        from planner.reports.explain import explain, together

        names = pipelines or [name.removeprefix(PLANS) for name in opened.names.items(PLANS)]
        explanations = explain(opened, names, images * 512 * 512)
        if svg is not None:
            from planner.pictures.plans import draw

            svg.write_text(draw(explanations), encoding="utf-8")
        sums = together(explanations)
        if as_json:
            plain = [dataclasses.asdict(explanation) for explanation in explanations]
            print_json({"images": images, "pipelines": plain, "together": dataclasses.asdict(sums)})
            return
        for explanation in explanations:
            _print_pipeline(explanation)
        if len(explanations) > 1:
            saved = 1 - sums.seconds / sums.seconds_alone if sums.seconds_alone else 0.0
            print_line(
                f"together on one series of {images} images: {sums.stages} stages, "
                f"{said_seconds(sums.seconds)} of computing instead of {said_seconds(sums.seconds_alone)} "
                f"in {sums.stages_alone} stages ({saved:.0%} saved)"
            )
        if svg is not None:
            print_line(f"picture: {svg}")


def _print_pipeline(explanation: "Explanation") -> None:
    rows = [
        (
            " + ".join(step for step, _ in stage.steps),
            " + ".join(operator for _, operator in stage.steps),
            stage.granularity + (", own process" if stage.pool == "gil" else ""),
            said_seconds(stage.seconds) + ("" if stage.measured else " (guess)"),
            said_bytes(stage.peak_bytes),
            few(stage.shared_with) or "-",
        )
        for stage in explanation.stages
    ]
    title = (
        f"{explanation.pipeline} {explanation.version} ({explanation.title}), plan {short(explanation.plan)}"
    )
    print_line(title)
    print_table(("steps", "operators", "runs on", "time>", "peak memory>", "shared with"), rows)
    for network in explanation.opaque:
        print_line(f"  the network of step {network.step} stays opaque: {network.why}")
    for waiting in explanation.unjudged:
        plans = ", ".join(f"{pipeline} (plan {short(plan)})" for plan, pipeline in waiting.plans)
        print_line(
            f"  the network of step {waiting.step} could run faster: not judged yet by the golden cases of "
            f"{plans}, as `lightbox promote` and `lightbox tune` do"
        )
    print_line(
        f"  {said_seconds(explanation.seconds)} in all, "
        f"{said_seconds(explanation.shared_seconds)} of it shared\n"
    )

"""`lightbox tune`: faster engines and precisions for a pipeline's networks, where its masks stay alike."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli.output import (
    JsonFlag,
    StoreOption,
    command_errors,
    opened_store,
    print_json,
    print_line,
    print_table,
    said_seconds,
    short,
    spoken,
)

if TYPE_CHECKING:
    from planner.tuning import TunedNetwork


def tune_command(
    pipeline: Annotated[str, typer.Argument(help="Name of a compiled pipeline.")],
    budget: Annotated[float, typer.Option(help="Seconds after which nothing more is tried.")] = 300.0,
    again: Annotated[bool, typer.Option(help="Look anew for what was looked for before.")] = False,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the fastest way of running a pipeline's networks that passes its accuracy gate on this machine."""
    with command_errors(), opened_store(store) as opened:
        from planner.tuning import tune

        with spoken() as say:
            tuning = tune(opened, pipeline, budget_s=budget, again=again, progress=say)
        if as_json:
            print_json(
                {
                    "pipeline": tuning.pipeline,
                    "plan": tuning.plan,
                    "binding": tuning.binding,
                    "seconds": tuning.took_s,
                    "networks": [_as_json(network) for network in tuning.networks],
                }
            )
            return
        for network in tuning.networks:
            _print_network(network)
        print_line(f"binding {short(tuning.binding)}, after {said_seconds(tuning.took_s)}")


def _print_network(network: "TunedNetwork") -> None:
    rows = [
        (
            tried.engine,
            tried.precision + (", folded" if tried.folded else ""),
            ", ".join(f"{count} {level}" for level, count in tried.levels.items()),
            f"{tried.speedup:.2f}x" if tried.speedup else "-",
            "passed" if tried.passed else tried.refused or "refused",
        )
        for tried in network.tried
    ]
    title = f"step {network.step}, network {short(network.network)} of family {short(network.family)}"
    print_table(("engine", "precision", "layers", "speed>", "gate"), rows, title=title)
    if network.remembered:
        print_line("  looked for before; --again looks anew")
    for note in network.notes:
        print_line(f"  {note}")
    for way, verdict in network.judged:
        print_line(
            f"  {way.engine} {way.precision} by the masks: {'passed' if verdict.passed else 'refused'}, "
            f"least Dice {verdict.least_dice:.4f}, mean {verdict.mean_dice:.4f}, "
            f"volumes within {verdict.volume_change:.2%}"
        )
        for failure in verdict.failures[:3]:
            print_line(f"    {failure}")
    print_line(f"  runs in {_chosen(network)}\n")


def _chosen(network: "TunedNetwork") -> str:
    chosen = network.chosen
    if chosen is None:
        return "onnxruntime fp32, from its own numbers"
    speed = chosen.figures.get("speedup")
    return str(chosen) + (f", {speed:g} times as fast as before" if speed else "")


def _as_json(network: "TunedNetwork") -> dict[str, Any]:
    import msgspec

    return {
        "network": network.network,
        "family": network.family,
        "step": network.step,
        "tried": msgspec.to_builtins(network.tried),
        "remembered": network.remembered,
        "notes": list(network.notes),
        "masks": [
            {**msgspec.to_builtins(verdict), "engine": way.engine, "precision": way.precision}
            for way, verdict in network.judged
        ],
        "chosen": msgspec.to_builtins(network.chosen),
    }

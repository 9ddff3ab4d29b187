"""`lightbox tune`: faster engines and precisions for a pipeline's networks, where its masks stay alike."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli.output import (
    JsonFlag,
    StoreOption,
    command_errors,
    fail,
    opened_store,
    print_json,
    print_line,
    print_table,
    said_seconds,
    short,
    spoken,
)

if TYPE_CHECKING:
    from object_store.opening import Store
    from planner.tuning import TunedNetwork

_LEGEND = (
    "1.00x: the network by itself, as it was imported, in fp32 on onnxruntime. Each row is a build for all",
    "members of the family, which takes in what they differ in and may be slower for that; folded: for this",
    "network alone. layers: how many run in each precision. gate: labels against fp32, on the golden cases.",
)


def tune_command(
    pipeline: Annotated[str, typer.Argument(help="Name of a compiled pipeline.")],
    budget: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="No further way is tried after this time. The golden cases are run, plain fp32 is timed and "
            "what was begun is finished in any case.",
        ),
    ] = 300.0,
    again: Annotated[bool, typer.Option(help="Look anew for what was looked for before.")] = False,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            help="Undo: forget what was found on this machine for the families of the pipeline's networks; "
            "all their members run in plain fp32 again.",
        ),
    ] = False,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the fastest way of running a pipeline's networks that passes its accuracy gate on this machine.

    What passes is used at once, by promoted pipelines too: a running server follows. --forget goes back.
    """
    if forget and again:
        fail("--forget undoes what was found, --again looks for more: give one of them")
    with command_errors(), opened_store(store) as opened:
        if forget:
            _forget(opened, pipeline, as_json=as_json)
            return
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
        if any(network.tried for network in tuning.networks):
            print_line("\n".join(_LEGEND))
        print_line(f"binding {short(tuning.binding)}, after {said_seconds(tuning.took_s)}")


def _forget(store: "Store", pipeline: str, *, as_json: bool) -> None:
    from planner.untune import untune

    done = untune(store, pipeline)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(done))
        return
    if not done.ways:
        print_line(
            f"nothing was found on this machine for the networks of {pipeline}: they run in plain fp32"
        )
    else:
        families = _many(len(done.families), "family", "families")
        print_line(
            f"{_many(done.ways, 'way')} found for {families} forgotten; "
            f"in plain fp32 again: {', '.join(done.pipelines)}"
        )
    print_line(f"binding {short(done.binding)}")


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


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
    print_line(f"step {network.step}, network {short(network.network)} of family {short(network.family)}")
    print_table(("engine", "precision", "layers", "speed>", "gate"), rows)
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
    said = str(chosen) + (f", {speed:g} times as fast as plain fp32" if speed else "")
    return said + (", as an earlier search found" if _found_before(network) else "")


def _found_before(network: "TunedNetwork") -> bool:
    """Whether the chosen way is of an earlier search, and none of those just tried."""
    chosen = network.chosen
    if chosen is None or not chosen.figures or network.remembered or not network.tried:
        return False
    return not any(
        tried.passed
        and (tried.engine, tried.precision) == (chosen.engine, chosen.precision)
        and tried.speedup == chosen.figures.get("speedup")
        for tried in network.tried
    )


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

"""Engine and precision planned for the real networks, against fp32 onnxruntime in the same run.

Each network is calibrated on one half of its image and judged on both. Candidates that pass are timed in turn
with fp32 onnxruntime on a held-out input, both sides with the same threads.
"""

import os
from collections.abc import Mapping, Sequence
from statistics import median

from loadtest.benches.figures import Bar, Figure, Findings, at_least, figure
from loadtest.benches.real_networks import CT_NETWORKS, NETWORKS, RealNetwork, networks
from loadtest.benches.say import Say
from planner.networks.precision.candidates import Choice, PrecisionPlan, Tried
from planner.networks.precision.search import judge_uniform, plan_precision

QUICK = ("ct-lungs-net", "model5_gw_ae")
PLANTED = "model5_gw_ae"
"""The brain network that int8 throughout is planted for."""
OVERALL, CT = 2.0, 3.3
_BUDGET_S = 70.0
"""Of one network: eleven of them, with timing, are to take no more than a quarter of an hour."""
_LETTERS = {"fp32": "f", "bf16": "b", "int8": "8"}


def run(quick: bool, say: Say) -> Findings:
    """All real networks, or two."""
    threads = len(os.sched_getaffinity(0))
    plans: dict[str, PrecisionPlan] = {}
    planted: Tried | None = None
    for network in networks(QUICK if quick else NETWORKS):
        plans[network.name] = _plan(network, threads, say)
        if network.name == PLANTED:
            say(f"{network.name}: planting int8 for every layer")
            planted = judge_uniform(
                network.opened.structure,
                network.opened.tensors,
                "openvino",
                "int8",
                calibration=[network.calibration],
                labels=network.labels,
                threads=threads,
            )
    assert planted is not None  # it is in both lists
    return findings(plans, planted, threads)


def findings(plans: Mapping[str, PrecisionPlan], planted: Tried, threads: int) -> Findings:
    """Figures, bars and a sentence on every network."""
    figures: dict[str, Figure] = {}
    for which, said in (("all", "one run"), ("onnxruntime", "one run with onnxruntime alone")):
        for name, plan in plans.items():
            choice = plan.choices[which].tried
            figures[f"{name}, {said}"] = figure(
                choice.rounds_s, choice.baseline_rounds_s, unit="s", better="lower", note=_figures_of(choice)
            )
    gains = {name: _gain(plan.choices["all"]) for name, plan in plans.items()}
    alone = [_gain(plan.choices["onnxruntime"]) for plan in plans.values()]
    figures["median speed-up"] = figure(list(gains.values()), unit="x", better="higher")
    figures["median speed-up with onnxruntime alone"] = figure(alone, unit="x", better="higher")
    bars = [
        at_least("median speed-up over fp32 onnxruntime at the gate", median(gains.values()), OVERALL, "x"),
        *(at_least(f"speed-up of {name}", gains[name], CT, "x") for name in CT_NETWORKS if name in gains),
        at_least("least speed-up of any network", min(gains.values()), 1.0, "x"),
        _all_pass(plans),
        Bar(
            name=f"int8 for every layer of {PLANTED}, planted, is refused",
            required="refused by the gate, with its figures",
            measured=planted.refused or "not refused",
            holds=planted.calibration is not None and not planted.calibration.passed,
        ),
    ]
    return Findings(figures=figures, bars=bars, notes=_notes(plans, planted, threads))


def _plan(network: RealNetwork, threads: int, say: Say) -> PrecisionPlan:
    plan = plan_precision(
        network.opened.structure,
        network.opened.tensors,
        calibration=[network.calibration],
        held_out=[network.held_out],
        labels=network.labels,
        budget_s=_BUDGET_S,
        threads=threads,
        progress=lambda line: say(f"{network.name}: {line}"),
    )
    choice = plan.choices["all"]
    say(f"{network.name}: {_gain(choice):.2f}x, {_figures_of(choice.tried)}; took {plan.took_s:.0f} s")
    return plan


def _gain(choice: Choice) -> float:
    """Over fp32 onnxruntime; that itself is 1, whatever two timings of it say."""
    same = choice.tried.engine == "onnxruntime" and choice.tried.precision == "fp32"
    return 1.0 if same else choice.tried.speed_up


def _figures_of(tried: Tried) -> str:
    judged = [verdict for verdict in (tried.calibration, tried.held_out) if verdict]
    levels = "".join(_LETTERS[level] for level in tried.levels)
    return (
        f"{tried.engine} {tried.precision} [{levels}]{' by ' + tried.method if tried.method else ''}, "
        f"Dice least {min(v.least_dice for v in judged):.4f}, mean {min(v.mean_dice for v in judged):.4f}, "
        f"volumes within {max(v.volume_change for v in judged):.2%}"
    )


def _all_pass(plans: Mapping[str, PrecisionPlan]) -> Bar:
    passed = sum(choice.tried.passed for plan in plans.values() for choice in plan.choices.values())
    every = sum(len(plan.choices) for plan in plans.values())
    return Bar(
        name="choices that pass the gate on calibration and held-out halves",
        required=f"{every} of {every}",
        measured=f"{passed} of {every}",
        holds=passed == every > 0,
    )


def _notes(plans: Mapping[str, PrecisionPlan], planted: Tried, threads: int) -> Sequence[str]:
    gate = next(iter(plans.values())).gate
    notes = [
        f"Gate: every segment's Dice >= {gate.least_dice} and their mean >= {gate.mean_dice} against fp32 "
        f"onnxruntime, no volume off by more than {gate.volume_change:.0%}; a segment of fewer than "
        f"{gate.tiny_voxels} voxels may differ in {gate.tiny_differing} voxels and is not in the mean.",
        f"Both sides on {threads} threads, ratios of the least of three rounds in turn. Layers: f fp32, "
        "b bf16, 8 int8.",
        "There is one image for each network: calibrated on one half (a cube of 128 on one side of the "
        "midline; lower slices), judged on that and on the other.",
        f"Planted on {PLANTED}: {_figures_of(planted)}: {planted.refused}.",
    ]
    for name, plan in plans.items():
        for which, choice in plan.choices.items():
            tiny = sum(v.tiny for v in (choice.tried.calibration, choice.tried.held_out) if v)
            notes.append(
                f"{name}, {which}: {_gain(choice):.2f}x, {_figures_of(choice.tried)}, {tiny} tiny segments."
            )
        refused = [tried for tried in plan.tried if tried.refused]
        notes.append(
            f"{name}: {len(plan.tried)} candidates in {plan.took_s:.0f} s, {len(refused)} refused"
            + "".join(f"; {_figures_of(t)}" for t in refused[:2] if t.calibration)
            + "".join(f"; {note}" for note in plan.notes)
            + "."
        )
    return notes

"""Engine and precision planned for the real networks, against fp32 onnxruntime in the same run.

Each network is calibrated on one half of its image and judged on both. What was chosen is then stored as
`lightbox tune` stores it, loaded as a worker loads it, and so judged and timed once more, in turn with plain
onnxruntime on the file and with the same threads.
"""

import os
from collections.abc import Mapping, Sequence
from statistics import median

from loadtest.benches.figures import Bar, Figure, Findings, at_least, figure
from loadtest.benches.networks.agreement import Agreement
from loadtest.benches.networks.chosen import GATED, Found, found_anew
from loadtest.benches.networks.served import LIFTED
from loadtest.benches.real_networks import CT_NETWORKS, NETWORKS, RealNetwork, networks
from loadtest.benches.say import Say
from planner.networks.precision.candidates import PrecisionPlan, Tried
from planner.networks.precision.gate import Verdict
from planner.networks.precision.search import judge_uniform, plan_precision

QUICK = ("ct-lungs-net", "model5_gw_ae")
PLANTED = "model5_gw_ae"
"""The brain network that int8 throughout is planted for."""
OVERALL, CT = 2.0, 3.3
_BUDGET_S = 70.0
"""Of one network: eleven of them, with timing, are to take about a quarter of an hour."""
SCATTER = 0.95
"""A network left in fp32 runs the same numbers on the same engine: what is missing to 1 is the clock's."""
_SAID = {
    "all": "held-out half",
    LIFTED: "held-out half in its family's build",
    "onnxruntime": "held-out half with onnxruntime alone",
}
_LETTERS = {"fp32": "f", "bf16": "b", "int8": "8"}


def run(quick: bool, say: Say) -> Findings:
    """All real networks, or two."""
    threads = len(os.sched_getaffinity(0))
    plans: dict[str, PrecisionPlan] = {}
    anew: dict[str, dict[str, Found]] = {}
    planted: Tried | None = None
    for network in networks(QUICK if quick else NETWORKS):
        plan = plans[network.name] = _plan(network, threads, say)
        found = anew[network.name] = found_anew(network, plan)
        say(f"{network.name}: {found['all'].gain:.2f}x, {_told(found['all'])}; took {plan.took_s:.0f} s")
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
    return findings(plans, anew, planted, threads)


def findings(
    plans: Mapping[str, PrecisionPlan],
    anew: Mapping[str, Mapping[str, Found]],
    planted: Tried,
    threads: int,
) -> Findings:
    """Figures, bars and a sentence on every network. anew: by network and engine set."""
    figures: dict[str, Figure] = {}
    for which, said in _SAID.items():
        for name, found in anew.items():
            if which not in found:
                continue
            figures[f"{name}, {said}"] = figure(
                found[which].rounds_s,
                found[which].file_rounds_s,
                unit="s",
                better="lower",
                note=_told(found[which]),
            )
    gains = {name: found["all"].gain for name, found in anew.items()}
    alone = [found["onnxruntime"].gain for found in anew.values()]
    figures["median speed-up"] = figure(list(gains.values()), unit="x", better="higher")
    figures["median speed-up with onnxruntime alone"] = figure(alone, unit="x", better="higher")
    bars = [
        at_least("median speed-up over fp32 onnxruntime at the gate", median(gains.values()), OVERALL, "x"),
        *(at_least(f"speed-up of {name}", gains[name], CT, "x") for name in CT_NETWORKS if name in gains),
        *_least(anew),
        _all_pass(anew),
        Bar(
            name=f"int8 for every layer of {PLANTED}, planted, is refused",
            required="refused by the gate, with its figures",
            measured=planted.refused or "not refused",
            holds=planted.calibration is not None and not planted.calibration.passed,
        ),
    ]
    return Findings(figures=figures, bars=bars, notes=_notes(plans, anew, planted, threads))


def _plan(network: RealNetwork, threads: int, say: Say) -> PrecisionPlan:
    return plan_precision(
        network.opened.structure,
        network.opened.tensors,
        calibration=[network.calibration],
        held_out=[network.held_out],
        labels=network.labels,
        lifted=network.lifted,
        budget_s=_BUDGET_S,
        threads=threads,
        progress=lambda line: say(f"{network.name}: {line}"),
    )


def _least(anew: Mapping[str, Mapping[str, Found]]) -> list[Bar]:
    """No network is slower than its file: those that run otherwise, and those left in fp32."""
    gains = [found["all"] for found in anew.values()]
    otherwise = [found.gain for found in gains if not found.left_as_it_was]
    left = [found.gain for found in gains if found.left_as_it_was]
    bars = []
    if otherwise:
        name = f"least speed-up of the {len(otherwise)} networks that no longer run in fp32 onnxruntime"
        bars.append(at_least(name, min(otherwise), 1.0, "x"))
    if left:
        name = f"least speed-up of the {len(left)} networks left in fp32 onnxruntime, but for the clock"
        bars.append(at_least(name, min(left), SCATTER, "x"))
    return bars


def _told(found: Found) -> str:
    return _figures_of(found.tried, (found.calibration, found.held_out))


def _tried(tried: Tried) -> str:
    return _figures_of(tried, [verdict for verdict in (tried.calibration, tried.held_out) if verdict])


def _figures_of(tried: Tried, judged: Sequence[Verdict]) -> str:
    levels = "".join(_LETTERS[level] for level in tried.levels)
    return (
        f"{tried.engine} {tried.precision} [{levels}]{' by ' + tried.method if tried.method else ''}, "
        f"Dice least {min(v.least_dice for v in judged):.4f}, mean {min(v.mean_dice for v in judged):.4f}, "
        f"volumes within {max(v.volume_change for v in judged):.2%}"
    )


def _equal(of: str, one: Agreement) -> str:
    """The gate's Dice is told where it is not told anyway."""
    said = f"{one.equal:.3%} of {of} ({one.inputs} inputs, the worst {one.least:.3%}"
    if of == GATED:
        return f"{said})"
    verdict = one.verdict
    gated = f", Dice least {verdict.least_dice:.4f}, mean {verdict.mean_dice:.4f}" if verdict.segments else ""
    return f"{said}{gated})"


def _all_pass(anew: Mapping[str, Mapping[str, Found]]) -> Bar:
    every = sum(len(found) for found in anew.values())
    passed = sum(one.passed for found in anew.values() for one in found.values())
    return Bar(
        name="choices that pass the gate on both halves once more, against plain onnxruntime on the file",
        required=f"{every} of {every}",
        measured=f"{passed} of {every}",
        holds=passed == every > 0,
    )


def _notes(
    plans: Mapping[str, PrecisionPlan],
    anew: Mapping[str, Mapping[str, Found]],
    planted: Tried,
    threads: int,
) -> Sequence[str]:
    gate = next(iter(plans.values())).gate
    notes = [
        f"Gate: every segment's Dice >= {gate.least_dice} and their mean >= {gate.mean_dice} against fp32 "
        f"onnxruntime, no volume off by more than {gate.volume_change:.0%}; a segment of fewer than "
        f"{gate.tiny_voxels} voxels may differ in {gate.tiny_differing} voxels and is not in the mean.",
        f"Both sides on {threads} threads; ratios of medians of rounds in turn after the choice was made, "
        "each round over all of the held-out half; ours out of the store, as a worker loads and feeds it. "
        "Layers: f fp32, b bf16, 8 int8.",
        "Labels of what does not run as the file does are compared with the file's: on all that the gate "
        "judged, on pieces of the image (slices one by one, cubes of 38) and on normal numbers with the "
        "image's mean and deviation. Fp32 on onnxruntime gives the file's outputs within 1e-5 (bench plan); "
        "the tolerance of other ways (OpenVINO in fp32, bf16, int8, mixed) is the gate on what it judged.",
        "ct-lungs-net is tuned as a member of the family of its variants: the family's build has the "
        "normalisations as inputs; its own, where that is faster, has them folded into the filters.",
        "There is one image for each network: calibrated on one half (a cube of 128 on one side of the "
        "midline; the lower slices), judged on that and on the other.",
        f"Planted on {PLANTED}: {_tried(planted)}: {planted.refused}.",
    ]
    for name, plan in plans.items():
        for which, found in anew[name].items():
            tiny = found.calibration.tiny + found.held_out.tiny
            notes.append(f"{name}, {which}: {found.gain:.2f}x, {_told(found)}, {tiny} tiny segments.")
            if found.agreements:
                way = f"{found.tried.engine} {found.tried.precision}"
                equal = "; ".join(_equal(of, one) for of, one in found.agreements.items())
                notes.append(f"{name}, {which}, {way}: labels equal to the file's: {equal}.")
        refused = [tried for tried in plan.tried if tried.refused]
        notes.append(
            f"{name}: {len(plan.tried)} candidates in {plan.took_s:.0f} s, {len(refused)} refused"
            + "".join(f"; {_tried(t)}" for t in refused[:2] if t.calibration)
            + "".join(f"; {note}" for note in plan.notes)
            + "."
        )
    return notes

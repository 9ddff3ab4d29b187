"""Variants of one network: a family in Lightbox against one session per model, in memory, time and store.

Both sides run as programs of their own on this machine in one run; the black box is measured at a few numbers
of models and extrapolated along a line, since 250 of its sessions do not fit the machines this runs on.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.benches.figures import Bar, Figure, Findings, at_least, at_most, figure
from loadtest.benches.networks.answers import SIDE as ANSWERED
from loadtest.benches.networks.dedicated import SIDE
from loadtest.benches.networks.registering import FEW
from loadtest.benches.networks.unet import CHANNELS, Base
from loadtest.benches.say import Say
from object_store import collect_garbage
from object_store.opening import open_store
from planner.references import references

VARIANTS = 250
TUNED_BY_OURS, DEFAULTS_BY_OURS = 50.0, 100.0
LATENCY_MEDIAN, LATENCY_WORST = 1.05, 1.15
FIRST_ANSWER = 1.2
STORE_FACTOR = 1.05
REGISTER_MS = 50.0
OUTPUTS, OUTPUTS_WITHIN = "outputs of every variant apart from its file's, of the largest magnitude", 1e-5
_DEADLINE_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured."""

    variants: int
    black_box_at: tuple[int, ...]
    sampled: int
    rounds: int
    channels: tuple[int, ...] = CHANNELS
    side: int = SIDE

    @classmethod
    def of(cls, quick: bool) -> "Scale":
        if quick:
            return cls(variants=20, black_box_at=(2, 4, 6), sampled=2, rounds=5)
        return cls(variants=VARIANTS, black_box_at=(10, 20, 40), sampled=10, rounds=9)


def compare(scale: Scale, say: Say, *, folded: bool, at_defaults: bool) -> Findings:
    """The figures of one kind of export. at_defaults: measure the black box at its defaults too."""
    base, side = Base(scale.channels), ("--side", scale.side)
    exported = ("--channels", *scale.channels, *(["--folded"] if folded else []))
    with tempfile.TemporaryDirectory(prefix="bench-family-") as name:
        folder = Path(name)
        say(f"registering {scale.variants} variants of {base.parameters() / 1e6:.2f} million parameters")
        registered = _program(
            "registering",
            folder / "store",
            *("--count", scale.variants),
            *exported,
        )
        rows = registered["variants"]
        stored = _bytes_in_store(folder / "store")
        networks = folder / "networks.json"
        networks.write_text(json.dumps([row["network"] for row in rows]), encoding="utf-8")
        say("letting every variant answer twice")
        family = _program("family", folder / "store", networks, *side)
        family |= _program("empty", folder / "store")
        say("comparing every variant's answer with its own file's")
        answered = _program("answers", folder / "store", networks, *exported)["differences"]
        models = folder / "models"
        models.mkdir()
        for variant in range(scale.black_box_at[-1]):
            base.write(variant, models / f"{variant:03}.onnx", folded=folded)
        files = sorted(models.iterdir())
        say("the black box, well tuned: one session per model, one arena for all")
        tuned = _program("dedicated", *files, "--tuned", *side, "--counts", *scale.black_box_at)
        defaults: Mapping[str, Any] | None = None
        if at_defaults:
            say("the black box at its defaults")
            defaults = _program("dedicated", *files, *side, "--counts", *scale.black_box_at)
        say("latency, turn by turn with dedicated sessions")
        model_bytes = files[0].stat().st_size
        turns = []
        for i in picked_of(scale):
            file = base.write(i, folder / "picked.onnx", folded=folded)
            turns.append(
                _program(
                    "latency", folder / "store", rows[i]["network"], file, "--rounds", scale.rounds, *side
                )
            )
    further = registered["further"]
    found = findings(
        scale, base, rows, further, stored, model_bytes, family, tuned, defaults, turns, answered
    )
    return with_verification(found, scale, rows) if folded else found


def picked_of(scale: Scale) -> list[int]:
    """The variants whose latency is measured: the first, the last and others at even distances."""
    return [int(i) for i in np.linspace(0, scale.variants - 1, scale.sampled)]


def findings(
    scale: Scale,
    base: Base,
    rows: Sequence[Mapping[str, Any]],
    further: Mapping[str, Sequence[float]],
    stored: int,
    model_bytes: int,
    family: Mapping[str, Any],
    tuned: Mapping[str, Any],
    defaults: Mapping[str, Any] | None,
    turns: Sequence[Mapping[str, Any]],
    answered: Sequence[float],
) -> Findings:
    """Figures and bars of what the programs wrote. defaults: None where that side was not measured.

    answered: how far the output of each variant is from that of its file.
    """
    ours_mb = (family["bytes"] + family["engine_bytes"]) / 1e6
    ratios = [_median(turn, "lightbox") / _median(turn, "dedicated") for turn in turns]
    first, later = family["seconds"]["first"], family["seconds"]["later"]
    first_p99, later_p99 = _p99(first), _p99(later)
    beyond_ms = [1e3 * (row["register_s"] - row["read_s"]) for row in rows[1:]]
    ideal = model_bytes + scale.variants * base.delta_bytes()
    figures: dict[str, Figure] = {
        "memory of all variants, against tuned sessions": _memory(ours_mb, tuned, scale),
        "latency of a variant": figure(
            [1e3 * _median(turn, "lightbox") for turn in turns],
            [1e3 * _median(turn, "dedicated") for turn in turns],
            unit="ms",
            better="lower",
            note="medians of variants, each against its own session, turn by turn, one thread",
        ),
        "first answer of a variant": figure(
            [1e3 * value for value in first],
            [1e3 * value for value in tuned["first_answer_s"]],
            unit="ms",
            better="lower",
            note="the black box opens its session first",
        ),
        "later answers": figure([1e3 * value for value in later], unit="ms", better="lower"),
        "registering, beyond reading the file": figure(beyond_ms, unit="ms", better="lower"),
        "processor time of registering, with reading": figure(
            [1e3 * row["processor_s"] for row in rows[1:]], unit="ms", better="lower", note="of all threads"
        ),
        "registering one more where all are known": figure(
            [1e3 * value for value in further["all"]],
            [1e3 * value for value in further["few"]],
            unit="ms",
            better="lower",
            note=f"in turn with the same where {FEW} are known; beyond reading the file",
        ),
        "bytes in the store": figure(
            [stored / 1e6], [scale.variants * model_bytes / 1e6], unit="MB", better="lower"
        ),
    }
    bars: list[Bar] = [
        at_most("latency by a dedicated session's, median", statistics.median(ratios), LATENCY_MEDIAN, "x"),
        at_most("latency by a dedicated session's, worst", max(ratios), LATENCY_WORST, "x"),
        at_most("p99 of first answers / p99 of later ones", first_p99 / later_p99, FIRST_ANSWER, "x"),
        at_most("bytes in the store / (base + deltas)", stored / ideal, STORE_FACTOR, "x"),
        at_most("registering beyond reading, median", statistics.median(beyond_ms), REGISTER_MS, "ms"),
        at_most(OUTPUTS, max(*answered, *(turn["difference"] for turn in turns)), OUTPUTS_WITHIN, ""),
        at_most(f"registering number {scale.variants + 1} / number {FEW + 1}", _growth(further), 1.2, "x"),
        at_most("bases that the variants have", sum(row["new_base"] for row in rows), 1, "bases"),
    ]
    if defaults is not None:
        key = "memory of all variants, against sessions at defaults"
        figures[key] = _memory(ours_mb, defaults, scale)
    if scale.variants >= VARIANTS:  # fewer could not hold it, whatever they took
        bars.append(_memory_bar("tuned sessions", tuned, scale, ours_mb, TUNED_BY_OURS))
        if defaults is not None:
            bars.append(_memory_bar("sessions at defaults", defaults, scale, ours_mb, DEFAULTS_BY_OURS))
    notes = [
        f"{scale.variants} variants of {base.parameters()} parameters, {scale.side} x {scale.side}, one "
        f"thread. Memory is PSS of one process above what it was with onnxruntime loaded and nothing run "
        f"({_mb(family['empty_bytes'])}). A stage worker of an empty server "
        f"({_mb(family['worker_bytes'])}) has no engine loaded: the {_mb(family['engine_bytes'])} for it are "
        f"added to ours alone. {_mb(family['stage_bytes'])} were there after the first variant's answer: the "
        "family's one stage.",
        f"Tuned sessions measured at {_readings(tuned)}; {scale.variants} extrapolated along a line.",
        *(
            [f"Sessions at defaults measured at {_readings(defaults)}; extrapolated likewise."]
            if defaults is not None
            else []
        ),
        f"Latency of variants {', '.join(str(i + 1) for i in picked_of(scale))}, each in a process "
        "of its own; bytes in the store are objects and names.sqlite.",
        f"{len(answered)} variants answered for an image of {ANSWERED} x {ANSWERED} each, and so did plain "
        f"onnxruntime from each one's file: {max(answered):.2g} apart at most, of the largest magnitude.",
    ]
    return Findings(figures=figures, bars=bars, notes=notes)


def with_verification(found: Findings, scale: Scale, rows: Sequence[Mapping[str, Any]]) -> Findings:
    """And what was verified at promotion. Variants that are kept exactly pass there without a run, so of them
    there is nothing to tell."""
    moved = max(row["largest_difference"] for row in rows)
    verified = sum(row["verified"] for row in rows)
    bars = [
        at_least("variants verified", verified, scale.variants, "variants"),
        at_most("largest difference at promotion, of the largest magnitude", moved, OUTPUTS_WITHIN, ""),
    ]
    took = figure([row["verify_s"] for row in rows], unit="s", better="lower")
    note = f"{verified} variants verified at promotion, largest difference there {moved:.2g}."
    return Findings(
        figures={**found.figures, "verifying at promotion": took},
        bars=[*found.bars, *bars],
        notes=[*found.notes, note],
    )


def _memory(ours_mb: float, theirs: Mapping[str, Any], scale: Scale) -> Figure:
    extrapolated = _at(theirs, scale.variants)
    note = f"baseline extrapolated to {scale.variants} from {scale.black_box_at[-1]} models"
    return figure([ours_mb], [extrapolated], unit="MB", better="lower", note=note)


def _memory_bar(name: str, theirs: Mapping[str, Any], scale: Scale, ours_mb: float, required: float) -> Bar:
    return at_least(f"memory of {name} / ours", _at(theirs, scale.variants) / ours_mb, required, "x")


def _readings(theirs: Mapping[str, Any]) -> str:
    return ", ".join(f"{count}: {_mb(size)}" for count, size in theirs["bytes_at"].items())


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def _bytes_in_store(folder: Path) -> int:
    """Of objects that something refers to, and of the names; closed, so that the names are one file."""
    with open_store(folder) as store:
        collect_garbage(store.objects, store.names, references, older_than_s=0)
        objects = sum(digest.size for digest in store.objects)
    return objects + sum(file.stat().st_size for file in folder.glob("names.sqlite*"))


def _at(theirs: Mapping[str, Any], count: int) -> float:
    """Megabytes of so many models, along the line through what was measured."""
    counts = [int(number) for number in theirs["bytes_at"]]
    slope, offset = np.polyfit(counts, [size / 1e6 for size in theirs["bytes_at"].values()], 1)
    return float(offset + slope * count)


def _growth(further: Mapping[str, Sequence[float]]) -> float:
    """The median of registering where all are known against that where few are."""
    return statistics.median(further["all"]) / statistics.median(further["few"])


def _median(turn: Mapping[str, Any], side: str) -> float:
    return float(statistics.median(turn["seconds"][side]))


def _p99(seconds: Sequence[float]) -> float:
    return float(np.percentile(seconds, 99))


def _program(module: str, *arguments: object) -> dict[str, Any]:
    """Run one of this folder's programs and read its JSON."""
    command = [sys.executable, "-m", f"loadtest.benches.networks.{module}", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_DEADLINE_S, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result

"""What one more variant's pipeline costs to compile, when a store has few of them and when it has many.

Each extends the bundled network's pipeline by a variant of its own: other statistics of its normalisations.
One process compiles them one after the other, and `lightbox compile` some more, each in a process of its own
that knows nothing yet. Costs of stages are not measured, which takes the same time for each.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from loadtest.benches.figures import Findings, at_most, figure
from loadtest.benches.say import Say
from models.pipeline import Pipeline
from models.pipeline_file import ZOO, read_pipeline
from object_store.opening import Store, open_store
from planner.bind import without_measuring
from planner.compile import compile_pipelines

FEW, MANY = 10, 250
MANY_BY_FEW = 1.2
NETWORK = "ct-lungs-net"
_AROUND = 5
"""Compilations whose median stands for the last of them."""
_DEADLINE_S = 300


def run(quick: bool, say: Say) -> Findings:
    """Compile 250 of them, or 40."""
    return measure(40 if quick else MANY, say)


def measure(many: int, say: Say, processes: int = _AROUND) -> Findings:
    """The last few compilations up to number FEW against those up to number `many`.

    processes: how many are compiled by the command at either point, on top of these.
    """
    with tempfile.TemporaryDirectory(prefix="bench-compiling-") as name:
        folder = Path(name)
        say(f"compiling {many} variants of {NETWORK}, one by one")
        with open_store(folder / "store") as store:
            ms = [1e3 * _compiled(store, _pipeline(folder, number)) for number in range(FEW)]
            cold_few = _by_command(folder, range(many, many + processes))
            ms += [1e3 * _compiled(store, _pipeline(folder, number)) for number in range(FEW, many)]
            say(f"compiling {processes} more by the command")
            cold_many = _by_command(folder, range(many + processes, many + 2 * processes))
    few, last = ms[FEW - _AROUND : FEW], ms[many - _AROUND :]
    return Findings(
        figures={
            f"compiling variant number {FEW}": figure(few, unit="ms", better="lower"),
            f"compiling variant number {many}": figure(last, unit="ms", better="lower"),
            f"lightbox compile after {FEW} variants": figure(cold_few, unit="s", better="lower"),
            f"lightbox compile after {many} variants": figure(cold_many, unit="s", better="lower"),
        },
        bars=[
            at_most(f"compiling number {many} / number {FEW}", median(last) / median(few), MANY_BY_FEW, "x"),
            at_most(
                f"lightbox compile, a process of its own, after {many} / after {FEW}",
                median(cold_many) / median(cold_few),
                MANY_BY_FEW,
                "x",
            ),
        ],
        notes=[
            f"Compiling: {many} pipelines that extend {NETWORK} by a variant each, in one process, reading "
            f"their files not counted; medians of {_AROUND}. The first took {ms[0]:.0f} ms, all of them "
            f"{sum(ms) / 1e3:.1f} s. lightbox compile: {processes} more at either point, from the start "
            "of its process to its end."
        ],
    )


def _compiled(store: Store, pipeline: Pipeline) -> float:
    started = time.perf_counter()
    compile_pipelines(store, [pipeline], costing=without_measuring)
    return time.perf_counter() - started


def _by_command(folder: Path, numbers: range) -> list[float]:
    """Seconds of `lightbox compile` for each of these pipelines."""
    seconds = []
    for number in numbers:
        file = _written(folder, number)
        command = [sys.executable, "-m", "serving.cli.main", "compile", str(file), "--no-measure"]
        started = time.perf_counter()
        subprocess.run(
            [*command, "--store", str(folder / "store")],
            stdout=subprocess.DEVNULL,
            timeout=_DEADLINE_S,
            check=True,
        )
        seconds.append(time.perf_counter() - started)
    return seconds


def _pipeline(folder: Path, number: int) -> Pipeline:
    return read_pipeline(_written(folder, number))


def _written(folder: Path, number: int) -> Path:
    """The file of a site's pipeline, with the statistics of one of the bundled variants moved a little."""
    with np.load(ZOO / f"{NETWORK}-low-dose.npz") as bundled:
        statistics = {key: bundled[key] for key in bundled.files}
    own = np.random.default_rng(number)
    moved = {
        key: (value * own.uniform(0.95, 1.05, value.shape)).astype(np.float32)
        for key, value in statistics.items()
    }
    path = folder / f"site-{number:03}"
    np.savez(path.with_suffix(".npz"), allow_pickle=False, **moved)
    file = path.with_suffix(".yaml")
    file.write_text(
        f"extends: {NETWORK}\npipeline: {path.name}\nsteps:\n  net: {{variant: {path.name}.npz}}\n",
        encoding="utf-8",
    )
    return file

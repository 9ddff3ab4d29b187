"""The runner: `python -m loadtest.benches NAME... | all | list [--quick] [--json FILE]`."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from loadtest.benches.figures import Findings, as_json
from loadtest.benches.machine import machine, revision
from loadtest.benches.say import Say, progress_lines
from loadtest.report import with_spread
from loadtest.server import ServerFailed

BENCHES: Mapping[str, str] = {
    "study": "three pipelines on one series together, against each alone",
    "ingest": "C-STORE at dcmtk's defaults, against Orthanc",
    "startup": "seconds to ready and memory of an idle server",
    "load": "a minute of mixed C-STORE and STOW-RS users",
    "variants": "a family of site variants, against one session per model",
    "fold": "the same with normalisation folded into the filters",
    "precision": "engine and precision planned for real networks, against fp32 onnxruntime",
    "plan": "what networks share, upsample-argmax, cost of compiling, the real families",
}
"""Each is the module of its name beside this file, with `run(quick, say) -> Findings`."""

Record: TypeAlias = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Run benchmarks; 0 if every bar holds, 1 if one does not, 2 if one could not be measured."""
    options = _parser().parse_args(arguments)
    if options.names == ["list"]:
        for name, about in BENCHES.items():
            sys.stdout.write(f"{name:10} {about}\n")
        return 0
    names = list(BENCHES) if "all" in options.names else options.names
    if unknown := sorted(set(names) - BENCHES.keys()):
        sys.stderr.write(f"lightbox: there is no benchmark '{unknown[0]}'; there are {', '.join(BENCHES)}\n")
        return 2
    signal.signal(signal.SIGTERM, _leave)  # so that servers are stopped and folders removed
    say, records, code = progress_lines(), [], 0
    for name in names:
        try:
            record = _record(name, options.quick, say)
        except (ServerFailed, FileNotFoundError) as error:
            sys.stderr.write(f"lightbox: {name} could not be measured: {error}\n")
            code = 2
            continue
        records.append(record)
        print_record(record)
        if code == 0 and not all(bar["holds"] for bar in record["bars"]):
            code = 1
    if options.json is not None:
        single = len(names) == 1 and len(records) == 1
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(records[0] if single else records, indent=2) + "\n")
    return code


def print_record(record: Record) -> None:
    """Figures and bars as tables on stdout."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 160
    figures = Table(title=record["bench"], title_justify="left", box=None, pad_edge=False)
    for column in ("figure", "Lightbox", "baseline", "ratio", "unit"):
        figures.add_column(column, justify="left" if column in ("figure", "unit") else "right")
    for key, figure in record["figures"].items():
        figures.add_row(
            key,
            with_spread(figure["lightbox"], figure["lightbox_spread"]),
            with_spread(figure["baseline"], figure["baseline_spread"]),
            "" if figure["ratio"] is None else f"{figure['ratio']:.2f}",
            figure["unit"],
        )
    console.print(figures)
    for bar in record["bars"]:
        console.print(
            f"{'holds' if bar['holds'] else 'FAILS'}: {bar['name']}: {bar['measured']} ({bar['required']})"
        )
    for note in record["notes"]:
        console.print(note)
    console.print()


def _record(name: str, quick: bool, say: Say) -> Record:
    run: Callable[[bool, Say], Findings] = import_module(f"loadtest.benches.{name}").run
    say(f"{name}: {BENCHES[name]}")
    busy = os.getloadavg()[0]
    findings = run(quick, say)
    return {
        "bench": name,
        "quick": quick,
        **as_json(findings),
        "machine": {**machine(), "load_average_before": round(busy, 2)},
        "revision": revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightbox bench", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(BENCHES)}; all; list")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller inputs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here")
    return parser


def _leave(signal_number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signal_number)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

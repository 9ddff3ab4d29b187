"""Figures, bars, rounds, the runner and the page made of what it wrote."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.benches.__main__ import BENCHES, main
from loadtest.benches.figures import Findings, as_json, at_least, at_most, figure
from loadtest.benches.load import findings, percentile
from loadtest.benches.machine import machine, revision
from loadtest.benches.rounds import in_turn
from loadtest.processes import process_tree, read_times, tree_cpu_s, tree_pss_bytes
from loadtest.report import page, read_records
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("better", "lightbox", "baseline", "ratio"),
    [("higher", 300.0, 150.0, 2.0), ("lower", 2.0, 5.0, 2.5), ("higher", 10.0, 20.0, 0.5)],
)
def test_a_ratio_above_one_is_better_for_lightbox(
    better: Any, lightbox: float, baseline: float, ratio: float
) -> None:
    assert figure([lightbox], [baseline], unit="x", better=better).ratio == ratio


def test_a_figure_is_the_median_with_its_spread() -> None:
    one = figure([3.0, 1.0, 2.0], unit="s", better="lower")
    assert (one.lightbox, one.lightbox_spread, one.baseline, one.ratio) == (2.0, (1.0, 3.0), None, None)


def test_bars_hold_at_their_limit() -> None:
    assert at_least("rate", 150.0, 150.0, "images/s").holds
    assert at_most("time", 3.0, 3.0, "s").holds
    assert not at_least("rate", 149.9, 150.0, "images/s").holds
    assert not at_most("time", 3.01, 3.0, "s").holds


def test_sides_are_measured_in_turn() -> None:
    order: list[str] = []
    sides = {name: (lambda n, name=name: order.append(f"{name}{n}")) for name in "AB"}
    in_turn(sides, 2)
    assert order == ["A0", "B0", "A1", "B1"]


def test_a_record_has_the_keys_that_others_rely_on() -> None:
    made = as_json(
        Findings(figures={"k": figure([1.0], unit="s", better="lower")}, bars=[at_most("b", 1, 2, "s")])
    )
    assert made["figures"]["k"].keys() >= {"lightbox", "baseline", "ratio", "unit"}
    assert made["bars"][0].keys() == {"name", "required", "measured", "holds"}
    json.dumps(made)


def test_machine_facts_name_processor_flags_and_versions() -> None:
    facts = machine()
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert "python" in facts["versions"]
    assert not any("ssse3" in flag for flag in facts["cpu_flags"])
    assert revision()


def test_an_unknown_benchmark_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "there is no benchmark 'nothing'; there are study, ingest" in capsys.readouterr().err


@pytest.mark.parametrize("name", BENCHES)
def test_every_benchmark_has_its_module(name: str) -> None:
    assert (REPOSITORY / "loadtest" / "benches" / f"{name}.py").exists()


def test_a_percentile_is_the_value_at_its_nearest_rank() -> None:
    counts = {100.0: 90, 200.0: 9, 900.0: 1}
    assert [percentile(counts, p) for p in (50, 90, 95, 99, 100)] == [100.0, 100.0, 200.0, 200.0, 900.0]


def row(method: str, name: str, failures: int = 0) -> dict[str, Any]:
    return {
        "method": method,
        "name": name,
        "num_requests": 4,
        "num_failures": failures,
        "response_times": {"1000": 3, "4000": 1},
        "min_response_time": 990.0,
        "max_response_time": 4012.0,
    }


def test_a_load_without_failures_and_results_by_both_doors_holds() -> None:
    made = findings([row("C-STORE", "time-to-result"), row("STOW-RS", "time-to-result")], 60)
    assert all(bar.holds for bar in made.bars)
    assert made.figures["C-STORE time-to-result, p99"].lightbox == 4.0


def test_one_failure_or_a_door_without_results_fails_the_load() -> None:
    made = findings([row("C-STORE", "time-to-result", failures=1)], 60)
    assert [bar.holds for bar in made.bars] == [False, False]


def record(bench: str) -> dict[str, Any]:
    made = as_json(
        Findings(
            figures={"rate": figure([300.0, 310.0], [150.0, 151.0], unit="images/s", better="higher")},
            bars=[at_least("rate", 305.0, 150.0, "images/s"), at_most("time", 4.0, 3.0, "s")],
            notes=["How."],
        )
    )
    facts = {
        "cpu": "CPU",
        "cores": 2,
        "memory_bytes": 8 << 30,
        "cpu_flags": ["avx2"],
        "versions": {"python": "3"},
    }
    date = "2026-01-02T03:04:05+00:00"
    return {"bench": bench, **made, "machine": facts, "revision": "0123456789abcdef", "date": date}


def test_the_page_shows_every_record_whether_alone_or_in_a_list(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps([record("load"), record("startup")]))
    (tmp_path / "a.json").write_text(json.dumps(record("ingest")))
    text = page(read_records(tmp_path))
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## ingest",
        "## load",
        "## startup",
    ]
    assert "| rate | 305 (300 to 310) | 150 (150 to 151) | 2.03 | images/s |" in text
    assert "- time: 4 s (required <= 3 s): **does not hold**" in text


def test_the_page_in_the_documentation_is_what_its_figures_give() -> None:
    docs = REPOSITORY / "docs"
    assert (docs / "benchmarks.md").read_text(encoding="utf-8") == page(read_records(docs / "benchmarks"))


def test_a_tree_of_processes_is_counted_whole() -> None:
    work = "sum(i * i for i in range(10**6))"
    grandchild = f"{work}; print('ready', flush=True); input()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        tree = process_tree(process.pid)
        assert tree[0] == process.pid
        assert len(tree) == 2
        own = read_times(process.pid)
        assert own is not None
        assert tree_cpu_s(process.pid) > own.cpu_s
        assert tree_pss_bytes(process.pid) > 1_000_000
        process.communicate(b"\n", timeout=30)
    assert process_tree(process.pid) == []
    assert tree_cpu_s(process.pid) == 0

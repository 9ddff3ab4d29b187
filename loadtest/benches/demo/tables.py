"""What the demonstration shows at the end, as tables for people or as one JSON document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.benches.demo.results import Result
from loadtest.benches.demo.sent import Sent
from loadtest.client import Job

QUANTITIES = {"volume": "volume", "mean": "mean", "laa950": "LAA-950"}
MEASURED_WORDS = {"[hnsf'U]": "HU", "1": ""}
"""UCUM -> what radiologists write."""


@dataclass(slots=True, kw_only=True)
class Story:
    """All that happened. send_s: by name of what was sent; jobs: by the same, with stages."""

    sent: list[Sent] = field(default_factory=list)
    send_s: dict[str, float] = field(default_factory=dict)
    jobs: dict[str, list[Job]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Sentences; any of them makes the exit code 1."""


@dataclass(frozen=True, slots=True)
class StageUse:
    """A stage on one series: how often it ran, and for which pipelines."""

    name: str
    pool: str
    runs: int
    cpu_s: float
    pipelines: tuple[str, ...]


def stage_uses(jobs: Sequence[Job]) -> list[StageUse]:
    """Every stage that ran on one series, in the order of the jobs' own lists; shared ones once."""
    seen: dict[str, dict[str, Any]] = {}
    pipelines: dict[str, list[str]] = {}
    for job in sorted(jobs, key=lambda job: str(job["pipeline"])):
        for stage in job.get("stages", ()):
            known = seen.setdefault(stage["stage"], stage)
            if stage["runs"] > known["runs"]:  # a job that came late saw fewer of them
                seen[stage["stage"]] = stage
            pipelines.setdefault(stage["stage"], []).append(job["pipeline"])
    return [
        StageUse(s["name"], s["pool"], s["runs"], s["cpu_seconds"], tuple(pipelines[key]))
        for key, s in seen.items()
    ]


def as_json(story: Story, took_s: float) -> dict[str, Any]:
    """The whole story; file names, UIDs and numbers, no patient data."""
    return {
        "seconds": took_s,
        "received": [
            {
                "series": sent.name,
                "door": sent.door,
                "images": len(sent.study.instances),
                "bytes": _size(sent),
                "seconds": story.send_s.get(sent.name),
                "series_instance_uid": sent.study.series_instance_uid,
            }
            for sent in story.sent
        ],
        "jobs": story.jobs,
        "results": [
            {
                "series": result.sent.name,
                "pipeline": result.job["pipeline"],
                "output": result.output,
                "time_to_result_s": result.job["time_to_result_s"],
                "dice": result.dice,
                "measurements": list(result.measurements),
                "seg": str(result.seg_file),
                "contact_sheet": str(result.sheet_file),
            }
            for result in story.results
        ],
        "problems": story.problems,
    }


def print_story(console: Console, story: Story) -> None:
    """Received, stages, results, measurements, files."""
    _print_received(console, story)
    _print_stages(console, story)
    _print_jobs(console, story)
    _print_measurements(console, story)
    _print_files(console, story)
    for problem in story.problems:
        console.print(f"[bold red]{problem}[/]" if console.is_terminal else problem)


def _table(title: str, *columns: str) -> Table:
    """Columns whose names end with > are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left")
    return table


def _print_received(console: Console, story: Story) -> None:
    table = _table("Received", "series", "door", "images>", "MB>", "seconds>", "images/s>")
    for sent in story.sent:
        seconds, count = story.send_s.get(sent.name, 0.0), len(sent.study.instances)
        rate = f"{count / seconds:.0f}" if seconds else ""
        table.add_row(sent.name, sent.door, str(count), f"{_size(sent) / 1e6:.0f}", f"{seconds:.1f}", rate)
    console.print(table, "")


def _print_stages(console: Console, story: Story) -> None:
    uses = {name: stage_uses(jobs) for name, jobs in story.jobs.items()}
    first = next((name for name in uses if uses[name]), None)
    if first is None:
        return
    table = _table(f"Stages on {first}", "stage", "pool", "runs>", "CPU s>", "for")
    for use in sorted(uses[first], key=lambda use: -len(use.pipelines)):
        table.add_row(
            _shortened(use.name), use.pool, str(use.runs), f"{use.cpu_s:.2f}", ", ".join(use.pipelines)
        )
    console.print(table)
    for name, stages in uses.items():
        shared = [use for use in stages if len(use.pipelines) > 1]
        spared = sum(use.cpu_s * (len(use.pipelines) - 1) for use in shared)
        total = sum(use.cpu_s for use in stages)
        if stages:
            console.print(
                f"{name}: {len(stages)} stages, {len(shared)} of them shared by two pipelines or more; "
                f"{total:.1f} s of CPU instead of {total + spared:.1f}"
            )
    console.print()


def _print_jobs(console: Console, story: Story) -> None:
    table = _table(
        "Results", "series", "pipeline", "state", "last image to result>", "Dice against the truth"
    )
    for sent in story.sent:
        for job in sorted(story.jobs.get(sent.name, ()), key=lambda job: str(job["pipeline"])):
            scores: dict[str, float] = {}
            for result in story.results:
                if result.job["id"] == job["id"]:
                    scores |= result.dice
            said = ", ".join(f"{segment} {score:.3f}" for segment, score in scores.items())
            if job["message"] and not any(warning in job["message"] for warning in job["warnings"]):
                said = f"{said} {job['message']}".strip()
            seconds = job["time_to_result_s"]
            took = "" if seconds is None else f"{seconds:.1f} s"
            table.add_row(sent.name, job["pipeline"], job["state"], took, said)
    console.print(table)
    for name, jobs in story.jobs.items():
        for warning in sorted({warning for job in jobs for warning in job["warnings"]}):
            console.print(f"{name}: {warning}")
    console.print()


def _print_measurements(console: Console, story: Story) -> None:
    names = list(dict.fromkeys(result.sent.name for result in story.results))
    values: dict[tuple[str, str, str], dict[str, str]] = {}
    for result in story.results:
        for item in result.measurements:
            unit = MEASURED_WORDS.get(item["unit"], item["unit"])
            row = values.setdefault((result.job["pipeline"], item["segment"], f"{_said(item)}, {unit}"), {})
            row[result.sent.name] = "nothing there" if item["value"] is None else f"{item['value']:.1f}"
    table = _table("Measurements", "pipeline", "segment", "quantity", *(f"{name}>" for name in names))
    for (pipeline, segment, quantity), row in values.items():
        table.add_row(pipeline, segment, quantity, *(row.get(name, "") for name in names))
    console.print(table, "")


def _print_files(console: Console, story: Story) -> None:
    if not story.results:
        return
    console.print(f"Files in {story.results[0].seg_file.parent.resolve()}")
    for result in story.results:
        console.print(f"  {result.seg_file.name}  {result.sheet_file.name}", highlight=False)
    console.print()


def _said(item: Mapping[str, Any]) -> str:
    return QUANTITIES.get(item["quantity"], str(item["quantity"]))


def _shortened(name: str, limit: int = 60) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _size(sent: Sent) -> int:
    return sum(len(instance.data) for instance in sent.study.instances)

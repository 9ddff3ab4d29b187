"""`lightbox jobs`: what was computed, what runs, and why something was refused."""

from datetime import datetime
from typing import Annotated, Any

import typer

from serving.cli.client import Client, KeyOption, UrlOption
from serving.cli.output import (
    NO,
    JsonFlag,
    command_errors,
    print_json,
    print_line,
    print_table,
    said_seconds,
)


def jobs_command(
    job: Annotated[str | None, typer.Argument(help="One job: everything about it.")] = None,
    state: Annotated[str | None, typer.Option(help="QUEUED, RUNNING, COMPLETED, REFUSED or FAILED.")] = None,
    study: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    limit: Annotated[int, typer.Option(help="The newest so many.")] = 50,
    url: UrlOption = None,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first, or show one. Exit code 1 if the one shown was refused or failed."""
    with command_errors():
        client = Client(url, api_key)
        if job is None:
            found = client.json("/api/jobs", state=state, study=study, limit=limit)
            if as_json:
                print_json(found)
            else:
                _print_jobs(found)
            return
        one = client.json(f"/api/jobs/{job}")
        if as_json:
            print_json(one)
        else:
            _print_job(one)
        if one["state"] in ("REFUSED", "FAILED"):
            raise typer.Exit(NO)


def _print_jobs(found: list[dict[str, Any]]) -> None:
    rows = [
        (
            one["id"],
            datetime.fromtimestamp(one["created_at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            one["pipeline"],
            one["state"],
            _took(one),
            one["message"] or "; ".join(one["warnings"]),
        )
        for one in found
    ]
    print_table(("job", "made", "pipeline", "state", "last image to result>", "said"), rows)


def _print_job(one: dict[str, Any]) -> None:
    print_line(f"{one['id']}  {one['pipeline']}  {one['state']}  {_took(one)}")
    for sentence in (one["message"], *one["warnings"]):
        if sentence:
            print_line(f"  {sentence}")
    print_line(f"plan {one['plan']}\nbinding {one['binding']}")
    if one["stages"]:
        rows = [
            (
                stage["name"],
                stage["pool"],
                stage["runs"],
                said_seconds(stage["seconds"]),
                said_seconds(stage["cpu_seconds"]),
                f"shared, ran for {stage['ran_for']}" if stage["shared"] else "",
            )
            for stage in one["stages"]
        ]
        print_table(("stage", "pool", "runs>", "wall>", "CPU>", ""), rows)
    for result in one["results"]:
        print_line(f"result {result['output']}: SOP Instance UID {result['sop_instance_uid']}")
        numbers = [
            (
                m["segment"],
                m["quantity"],
                "nothing to measure" if m["value"] is None else f"{m['value']:.1f}",
                m["unit"],
            )
            for m in result["measurements"]
        ]
        if numbers:
            print_table(("segment", "quantity", "value>", "unit"), numbers)
    for delivery in one["deliveries"]:
        print_line(f"to {delivery['destination']}: {delivery['state']} {delivery['message']}")


def _took(one: dict[str, Any]) -> str:
    return "" if one["time_to_result_s"] is None else said_seconds(one["time_to_result_s"])

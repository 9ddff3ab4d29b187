"""A minute of locust users on a fresh server: C-STORE and STOW-RS modalities, and readers of results.

The users are loadtest/locustfile.py in a process of its own; how many there are is bounded, so this asks
whether a busy server answers everybody, not how much it could take.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.benches.figures import Bar, Figure, Findings
from loadtest.benches.generated import chest_template
from loadtest.benches.say import Say
from loadtest.benches.startup import wait_until_warm
from loadtest.server import CLASSICAL, LightboxServer, ServerFailed, fill_store

USERS = 5
"""Two of C-STORE, two of STOW-RS, one reader."""
SLICES, SIZE = 40, 256
_STOP_DEADLINE_S = 120
_LOCUSTFILE = Path(__file__).resolve().parents[1] / "locustfile.py"
_PERCENTILES = (50, 90, 95, 99)


def run(quick: bool, say: Say) -> Findings:
    """One minute, quick or not: `make loadtest` promises a minute."""
    seconds = 60
    with tempfile.TemporaryDirectory(prefix="bench-load-") as name:
        folder = Path(name)
        say(f"generating a series of {SLICES} images of {SIZE} x {SIZE}")
        chest_template(folder / "series", 4, SLICES, size=SIZE)
        say("compiling and promoting the bundled pipelines")
        fill_store(folder / "store", CLASSICAL, tenants={"local": CLASSICAL})
        with LightboxServer(folder=folder / "data", store=folder / "store") as server:
            wait_until_warm(server)
            say(f"{USERS} users for {seconds} s")
            rows = _locust(server, folder, seconds)
    return findings(rows, seconds)


def findings(rows: list[dict[str, Any]], seconds: int) -> Findings:
    """rows: locust's statistics, one per request type and name; times in ms."""
    figures: dict[str, Figure] = {}
    for row in sorted(rows, key=lambda row: (row["name"], row["method"])):
        counts = {float(ms): int(count) for ms, count in row["response_times"].items()}
        for percent in _PERCENTILES if counts else ():
            figures[f"{row['method']} {row['name']}, p{percent}"] = Figure(
                lightbox=percentile(counts, percent) / 1000,
                baseline=None,
                ratio=None,
                unit="s",
                lightbox_spread=(row["min_response_time"] / 1000, row["max_response_time"] / 1000),
                samples=row["num_requests"],
            )
    requests = sum(row["num_requests"] for row in rows)
    failures = sum(row["num_failures"] for row in rows)
    doors = sorted(row["method"] for row in rows if row["name"] == "time-to-result" and row["num_requests"])
    bars = [
        Bar(name="failures", required="0", measured=f"{failures} of {requests}", holds=failures == 0),
        Bar(
            name="results by both doors",
            required="C-STORE, STOW-RS",
            measured=", ".join(doors) or "none",
            holds=doors == ["C-STORE", "STOW-RS"],
        ),
    ]
    return Findings(
        figures=figures,
        bars=bars,
        notes=[
            f"{USERS} users for {seconds} s on the same machine as the server; series of {SLICES} images of "
            f"{SIZE} x {SIZE}, three pipelines each; time-to-result counts from the last acknowledgement to "
            "the last result, the quiet time that completes a series included."
        ],
    )


def percentile(counts: Mapping[float, int], percent: float) -> float:
    """The smallest value that `percent` of all are not above (nearest rank). counts: value -> how often."""
    rank = math.ceil(sum(counts.values()) * percent / 100)
    for value in sorted(counts):
        rank -= counts[value]
        if rank <= 0:
            return value
    raise ValueError("no values")


def _locust(server: LightboxServer, folder: Path, seconds: int) -> list[dict[str, Any]]:
    """Run the users to their end; locust's statistics."""
    statistics = folder / "statistics"
    command = [
        *(sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--loglevel", "WARNING"),
        *("--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", f"{seconds}s"),
        *("--stop-timeout", str(_STOP_DEADLINE_S), "--host", server.http, "--only-summary"),
        *("--dimse", f"{server.ae_title}@{server.dimse_host}:{server.dimse_port}"),
        *("--series", str(folder / "series"), "--json-file", str(statistics)),
    ]
    with (folder / "locust.log").open("wb") as log:
        users = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            users.wait(seconds + _STOP_DEADLINE_S + 60)
        except subprocess.TimeoutExpired as error:
            raise ServerFailed("the users did not end in time") from error
        finally:
            if users.poll() is None:
                users.kill()
                users.wait()
    said = (folder / "locust.log").read_text(errors="replace").strip()
    written = statistics.with_suffix(".json")
    if not written.exists():
        raise ServerFailed(f"locust ended with {users.returncode}: {said[-600:]}")
    if said:
        sys.stderr.write(said + "\n")
    rows: list[dict[str, Any]] = json.loads(written.read_text())
    return rows

"""A server with every pool started and the bundled pipelines promoted: seconds to ready, memory when idle.

Memory is the proportional set size over all its processes, once as soon as it is ready and once after the
heavy imports that are warmed behind readiness. There is no baseline: black boxes have no such figure.
"""

import tempfile
import time
from pathlib import Path

from loadtest.benches.figures import Findings, at_most, figure
from loadtest.benches.say import Say
from loadtest.processes import process_tree, tree_cpu_s, tree_pss_bytes
from loadtest.server import BUNDLED, LightboxServer, fill_store

READY_S, IDLE_MB = 3.0, 400.0
_WARM_DEADLINE_S = 60.0


def run(quick: bool, say: Say) -> Findings:
    """Start it again and again on the same store."""
    rounds = 2 if quick else 5
    ready_s, ready_cpu_s, ready_mb, warm_mb, processes = [], [], [], [], 0
    with tempfile.TemporaryDirectory(prefix="bench-startup-") as name:
        folder = Path(name)
        say("compiling and promoting the bundled pipelines")
        fill_store(folder / "store", BUNDLED, tenants={"local": BUNDLED})
        for number in range(rounds):
            with LightboxServer(folder=folder / f"data-{number}", store=folder / "store") as server:
                ready_cpu_s.append(tree_cpu_s(server.pid))
                ready_mb.append(tree_pss_bytes(server.pid) / 1e6)
                wait_until_warm(server)
                warm_mb.append(tree_pss_bytes(server.pid) / 1e6)
                processes = len(process_tree(server.pid))
                ready_s.append(server.ready_after_s)
            say(f"ready after {ready_s[-1]:.2f} s with {ready_mb[-1]:.0f} MB, warm {warm_mb[-1]:.0f} MB")
    figures = {
        "seconds to ready": figure(ready_s, unit="s", better="lower"),
        "CPU to ready": figure(ready_cpu_s, unit="s", better="lower"),
        "PSS when ready": figure(ready_mb, unit="MB", better="lower"),
        "PSS when warm": figure(warm_mb, unit="MB", better="lower"),
    }
    return Findings(
        figures=figures,
        bars=[
            at_most("seconds to ready", figures["seconds to ready"].lightbox, READY_S, "s"),
            at_most("PSS of all processes when ready", figures["PSS when ready"].lightbox, IDLE_MB, "MB"),
            at_most("PSS of all processes when warm", figures["PSS when warm"].lightbox, IDLE_MB, "MB"),
        ],
        notes=[f"{processes} processes; started {rounds} times, files in the page cache."],
    )


def wait_until_warm(server: LightboxServer, *, api_key: str = "") -> None:
    """Until every pool says that it has loaded what the promoted plans need. Raises: TimeoutError."""
    client, until = server.client(api_key), time.monotonic() + _WARM_DEADLINE_S
    while not all(pool["warm"] for pool in client.status()["pools"].values()):
        if time.monotonic() > until:
            raise TimeoutError(f"not every pool is warm after {_WARM_DEADLINE_S:g} s")
        time.sleep(0.05)

"""Three classical pipelines on one series together, against each of them alone.

One server, one store, one binding: tenants differ in what is promoted for them, and every run sends a copy of
the series under new UIDs, so nothing is shared but what one series gives.
"""

import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.benches.figures import Bar, Findings, at_most, figure
from loadtest.benches.generated import chest_template
from loadtest.benches.rounds import in_turn
from loadtest.benches.say import Say
from loadtest.benches.startup import wait_until_warm
from loadtest.client import Job, LightboxClient
from loadtest.processes import tree_cpu_s
from loadtest.senders import send_by_cstore
from loadtest.server import BUNDLED, LightboxServer, ServerFailed, fill_store
from loadtest.studies import StudyTemplate

TOGETHER = "together"
SIDES: Mapping[str, Sequence[str]] = {TOGETHER: BUNDLED, **{name: (name,) for name in BUNDLED}}
"""Side -> pipelines promoted for its tenant."""
KEPT_SHARE = 0.9
"""How much of the shared stages' CPU must be saved, twice over: two of the three need not run them."""
_DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One series, from the first image to the last result.

    stages: (stage id, name) -> runs and CPU seconds, as the server counted them for these jobs.
    """

    wall_s: float
    process_cpu_s: float
    stage_cpu_s: float
    stage_runs: Mapping[str, int]
    of_pipeline: Mapping[str, Mapping[str, str]]
    cpu_of_stage: Mapping[str, float]


def run(quick: bool, say: Say) -> Findings:
    """Together and alone in turn."""
    slices, rounds = (64, 1) if quick else (128, 3)
    with tempfile.TemporaryDirectory(prefix="bench-study-") as name:
        folder = Path(name)
        say(f"generating a series of {slices} images of 512 x 512")
        template = chest_template(folder / "template", 2, slices)
        say("compiling and promoting: all three for one tenant, each alone for three more")
        fill_store(folder / "store", BUNDLED, tenants=SIDES)
        with LightboxServer(folder=folder / "data", store=folder / "store", toml=_configuration()) as server:
            wait_until_warm(server, api_key=_key(TOGETHER))
            bench = _Bench(server, template, say)
            bench.measure(TOGETHER)  # the first run pays for first times of everything
            sides = {side: (lambda _, side=side: bench.measure(side)) for side in SIDES}
            runs = in_turn(sides, rounds)
    return _findings(runs, slices)


class _Bench:
    def __init__(self, server: LightboxServer, template: StudyTemplate, say: Say) -> None:
        self._server, self._template, self._say = server, template, say

    def measure(self, side: str) -> Run:
        """Send one copy to the tenant of this side and wait for its jobs."""
        client = self._server.client(_key(side))
        study = self._template.copy(uuid.uuid4().hex)
        metrics, cpu_s = client.metrics(), tree_cpu_s(self._server.pid)
        send_by_cstore(
            study.instances, self._server.dimse_host, self._server.dimse_port, called_ae_title=_ae_title(side)
        )
        jobs = client.wait_for_jobs({study.series_instance_uid: len(SIDES[side])}, deadline_s=_DEADLINE_S)
        spent_s = tree_cpu_s(self._server.pid) - cpu_s
        if failed := [f"{job['pipeline']} {job['state']}" for job in jobs if job["state"] != "COMPLETED"]:
            raise ServerFailed(", ".join(failed))
        run = _run(client, jobs, metrics, spent_s)
        self._say(
            f"{side}: {run.wall_s:.2f} s, CPU {run.process_cpu_s:.2f} s, of it stages {run.stage_cpu_s:.2f} s"
        )
        return run


def _run(client: LightboxClient, jobs: Sequence[Job], before: dict[str, Any], cpu_s: float) -> Run:
    after = client.metrics()

    def grown(name: str) -> dict[str, float]:
        """How much a counter grew, by stage name."""
        grown: dict[str, float] = {}
        for labels, value in after.get(name, {}).items():
            stage = dict(labels)["stage"]
            grown[stage] = grown.get(stage, 0.0) + value - before.get(name, {}).get(labels, 0.0)
        return grown

    details = [client.job(job["id"]) for job in jobs]
    stages = {job["pipeline"]: {s["stage"]: s["name"] for s in job["stages"]} for job in details}
    return Run(
        wall_s=max(job["time_to_result_s"] for job in jobs),
        process_cpu_s=cpu_s,
        stage_cpu_s=sum(grown("lightbox_stage_cpu_seconds_total").values()),
        stage_runs={name: round(n) for name, n in grown("lightbox_stage_runs_total").items() if n},
        of_pipeline=stages,
        cpu_of_stage={s["stage"]: s["cpu_seconds"] for job in details for s in job["stages"]},
    )


def _findings(runs: Mapping[str, Sequence[Run]], slices: int) -> Findings:
    together = runs[TOGETHER]
    rounds = range(len(together))
    shared = set.intersection(*(set(stages) for stages in together[0].of_pipeline.values()))
    names = {together[0].of_pipeline[BUNDLED[0]][stage] for stage in shared}
    shared_cpu_s = [sum(run.cpu_of_stage[stage] for stage in shared) for run in together]

    def alone(quantity: str) -> list[float]:
        return [sum(getattr(runs[name][n], quantity) for name in BUNDLED) for n in rounds]

    figures = {
        "time to all results": figure(
            [run.wall_s for run in together], alone("wall_s"), unit="s", better="lower",
            note="baseline: the three one after the other",
        ),
        "CPU of all stages": figure(
            [run.stage_cpu_s for run in together], alone("stage_cpu_s"), unit="s", better="lower"
        ),
        "CPU of the server": figure(
            [run.process_cpu_s for run in together], alone("process_cpu_s"), unit="s", better="lower",
            note="receiving included: once together, three times alone",
        ),
        "CPU of the shared stages": figure(shared_cpu_s, unit="s", better="lower"),
    }  # fmt: skip
    for name in sorted(names):
        figures[f"runs of {name}"] = figure(
            [float(run.stage_runs[name]) for run in together],
            [float(sum(runs[pipeline][n].stage_runs[name] for pipeline in BUNDLED)) for n in rounds],
            unit="runs",
            better="lower",
        )
    saved = KEPT_SHARE * 2 * median(shared_cpu_s)
    once = {name: together[0].stage_runs[name] == runs[BUNDLED[0]][0].stage_runs[name] for name in names}
    bars = [
        at_most(
            f"CPU of {key} together, against alone less {KEPT_SHARE} x 2 x the shared stages'",
            median([getattr(run, quantity) for run in together]),
            median(alone(quantity)) - saved,
            "s",
        )
        for key, quantity in (("all stages", "stage_cpu_s"), ("the server", "process_cpu_s"))
    ]
    bars.append(
        Bar(
            name="shared stages run as often for three pipelines as for one",
            required=f"{len(once)} of {len(once)}",
            measured=f"{sum(once.values())} of {len(once)}",
            holds=all(once.values()) and bool(once),
        )
    )
    notes = [
        f"{slices} generated CT images of 512 x 512, sent by C-STORE; "
        f"shared by all three: {', '.join(sorted(names))}."
    ]
    return Findings(figures=figures, bars=bars, notes=notes)


def _key(side: str) -> str:
    return f"bench-{side}"


def _ae_title(side: str) -> str:
    return f"BENCH-{side}".upper()[:16]


def _configuration() -> str:
    """A tenant and a route for each side."""
    tables = []
    for side in SIDES:
        key = sha256(_key(side).encode()).hexdigest()
        tables.append(
            f'[[tenants]]\nname = "{side}"\nae_titles = ["{_ae_title(side)}"]\napi_keys_sha256 = ["{key}"]\n'
        )
        tables.append(f'[[routes]]\ntenant = "{side}"\n')
    return "\n".join(tables)

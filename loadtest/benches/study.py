"""Three classical pipelines on one series together, against each of them alone.

One server, one store, one binding: tenants differ in what is promoted for them, and every run sends a copy of
the series under new UIDs, so nothing is shared but what one series gives.
"""

import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.benches.figures import Bar, Figure, Findings, at_most, figure
from loadtest.benches.generated import chest_template
from loadtest.benches.rounds import in_turn
from loadtest.benches.say import Say
from loadtest.benches.startup import wait_until_warm
from loadtest.client import Job, LightboxClient
from loadtest.processes import tree_cpu_s
from loadtest.senders import send_by_cstore
from loadtest.server import CLASSICAL, LightboxServer, ServerFailed, fill_store
from loadtest.studies import StudyTemplate

TOGETHER = "together"
SIDES: Mapping[str, Sequence[str]] = {TOGETHER: CLASSICAL, **{name: (name,) for name in CLASSICAL}}
"""Side -> pipelines promoted for its tenant."""
KEPT_SHARE = 0.9
"""How much of the shared stages' CPU must be saved, twice over: two of the three need not run them."""
_DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One series, from the last image to the last result.

    counted_runs, stage_cpu_s: by the server's counters, over all stages while this series was computed.
    runs_of, cpu_of: by stage id, as the jobs tell; names: of stages, by id; stages: ids by pipeline.
    """

    wall_s: float
    process_cpu_s: float
    stage_cpu_s: float
    counted_runs: Mapping[str, int]
    runs_of: Mapping[str, int]
    cpu_of: Mapping[str, float]
    names: Mapping[str, str]
    stages: Mapping[str, frozenset[str]]


def run(quick: bool, say: Say) -> Findings:
    """Together and alone in turn."""
    slices, rounds = (64, 1) if quick else (128, 3)
    with tempfile.TemporaryDirectory(prefix="bench-study-") as name:
        folder = Path(name)
        say(f"generating a series of {slices} images of 512 x 512")
        template = chest_template(folder / "template", 2, slices)
        say("compiling and promoting: all three for one tenant, each alone for three more")
        fill_store(folder / "store", CLASSICAL, tenants=SIDES)
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
    uses = [stage for job in details for stage in job["stages"]]
    return Run(
        wall_s=max(job["time_to_result_s"] for job in jobs),
        process_cpu_s=cpu_s,
        stage_cpu_s=sum(grown("lightbox_stage_cpu_seconds_total").values()),
        counted_runs={name: round(n) for name, n in grown("lightbox_stage_runs_total").items() if n},
        runs_of={use["stage"]: use["runs"] for use in uses},
        cpu_of={use["stage"]: use["cpu_seconds"] for use in uses},
        names={use["stage"]: use["name"] for use in uses},
        stages={job["pipeline"]: frozenset(use["stage"] for use in job["stages"]) for job in details},
    )


def _findings(runs: Mapping[str, Sequence[Run]], slices: int) -> Findings:
    together = runs[TOGETHER]
    shared = frozenset.intersection(*together[0].stages.values())
    shared_cpu_s = [sum(run.cpu_of[stage] for stage in shared) for run in together]
    names = sorted(together[0].names[stage] for stage in shared)
    figures = {
        "time to all results": figure(
            [run.wall_s for run in together],
            _alone(runs, lambda run: run.wall_s),
            unit="s",
            better="lower",
            note="baseline: the three one after the other",
        ),
        "CPU of all stages": figure(
            [run.stage_cpu_s for run in together],
            _alone(runs, lambda run: run.stage_cpu_s),
            unit="s",
            better="lower",
        ),
        "CPU of the server": figure(
            [run.process_cpu_s for run in together],
            _alone(runs, lambda run: run.process_cpu_s),
            unit="s",
            better="lower",
            note="receiving included: once together, three times alone",
        ),
        "CPU of the shared stages": figure(shared_cpu_s, unit="s", better="lower"),
        **{f"runs of {name}": _counted(runs, name) for name in ("decode", "stack")},
    }
    saved_s = KEPT_SHARE * 2 * median(shared_cpu_s)
    bars = [
        at_most(
            f"{key} together, against the sum of each alone less {KEPT_SHARE} x 2 x the shared stages'",
            figures[key].lightbox,
            (figures[key].baseline or 0.0) - saved_s,
            "s",
        )
        for key in ("CPU of all stages", "CPU of the server")
    ]
    notes = [
        f"{slices} generated CT images of 512 x 512, sent by C-STORE; all three share {', '.join(names)}."
    ]
    return Findings(figures=figures, bars=[*bars, *_sharing(runs, shared)], notes=notes)


def _sharing(runs: Mapping[str, Sequence[Run]], shared: frozenset[str]) -> list[Bar]:
    """Whether shared stages ran as often as for one pipeline, and no stage ran without being told of."""
    first, one = runs[TOGETHER][0], runs[CLASSICAL[0]][0]
    as_for_one = sum(first.runs_of[stage] == one.runs_of[stage] for stage in shared)
    told, counted = sum(first.runs_of.values()), sum(first.counted_runs.values())
    return [
        Bar(
            name="shared stages that run as often for three pipelines as for one",
            required=f"{len(shared)} of {len(shared)}, not none",
            measured=f"{as_for_one} of {len(shared)}",
            holds=as_for_one == len(shared) > 0,
        ),
        Bar(
            name="stage runs by the server's counter, each distinct stage once a part",
            required=str(told),
            measured=str(counted),
            holds=told == counted,
        ),
    ]


def _counted(runs: Mapping[str, Sequence[Run]], name: str) -> Figure:
    """Runs of a stage by the server's counter."""
    ours = [float(run.counted_runs[name]) for run in runs[TOGETHER]]
    theirs = _alone(runs, lambda run: float(run.counted_runs[name]))
    return figure(ours, theirs, unit="runs", better="lower")


def _alone(runs: Mapping[str, Sequence[Run]], quantity: Callable[[Run], float]) -> list[float]:
    """The sum over the pipelines alone, by round."""
    return [
        sum(map(quantity, of_round)) for of_round in zip(*(runs[name] for name in CLASSICAL), strict=True)
    ]


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

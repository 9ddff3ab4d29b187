"""`python -m loadtest.benches.demo`: series in through both doors, segmentations out, shown to a person."""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from rich.console import Console

from loadtest.benches.demo.compiled import compile_and_promote, is_compiled
from loadtest.benches.demo.results import fetch
from loadtest.benches.demo.sent import Sent, own_series, phantom, salt_of
from loadtest.benches.demo.tables import Story, as_json, print_story
from loadtest.benches.say import Say, progress_lines
from loadtest.client import Job, NotAllStored, ServerSaid, TookTooLong
from loadtest.senders import NotStored, send_by_cstore
from loadtest.server import BUNDLED, LightboxServer, ServerFailed

SLICES = 128
DICE_ABSURD = 0.8
"""Below this a mask is not what it says it is."""
DEADLINE_S = 300.0


class DemoFailed(Exception):
    """The demonstration cannot go on; one sentence."""


def main(arguments: Sequence[str]) -> int:
    """0 if everything came back as it should, 1 if not, 2 if it could not be tried."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)
    say, began, folder = progress_lines(), time.monotonic(), options.folder
    try:
        _take(folder)
        series = _prepare(folder, options.dicom, options.slices, say)
        with LightboxServer(folder=folder / "data", store=folder / "store") as server:
            say(f"the server was ready after {server.ready_after_s:.1f} s: {server.http}")
            story = _send_and_wait(server, series, folder, say)
            took_s = time.monotonic() - began
            _tell(story, took_s, options.json)
            if options.stay:
                _stay(server, say)
    except (DemoFailed, ServerFailed, ServerSaid, NotStored, TookTooLong) as error:
        sys.stderr.write(f"lightbox: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 1 if story.problems else 0


def _take(folder: Path) -> None:
    """Make room for this run; the compiled store of the last one stays."""
    announced = folder / "data" / "server.json"
    if announced.exists() and _lives(int(json.loads(announced.read_text())["pid"])):
        raise DemoFailed(f"a server is running on {folder}: stop it first, or name another --folder")
    for name in ("data", "results", "series"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "results").mkdir(parents=True)


def _prepare(folder: Path, dicom: Path | None, slices: int, say: Say) -> list[Sent]:
    """Compile in one process while this one draws the phantoms."""
    store = folder / "store"
    with ThreadPoolExecutor(1) as aside:
        if is_compiled(store, BUNDLED):
            say("the pipelines are compiled already")
            compiling = None
        else:
            say(f"compiling {', '.join(BUNDLED)}, checking them on their golden cases")
            compiling = aside.submit(compile_and_promote, store, BUNDLED)
        say(f"drawing two made-up patients, {slices} slices of 512 x 512 each")
        salt = salt_of((time.time_ns(), os.getpid()))
        series = [
            phantom(1, slices, "C-STORE", folder / "series" / "1", salt=salt),
            phantom(2, slices, "STOW-RS", folder / "series" / "2", salt=salt),
        ]
        if dicom is not None:
            own, left_out = own_series(dicom)
            series += own
            say(f"{dicom}: {len(own)} series; {left_out} files are no DICOM with UIDs and stay here")
        if compiling is not None:
            compiling.result()
            say("compiled and promoted")
    return series


def _send_and_wait(server: LightboxServer, series: Sequence[Sent], folder: Path, say: Say) -> Story:
    client, story = server.client(), Story(sent=list(series))
    for sent in series:
        began = time.monotonic()
        try:
            _send(server, sent)
        except (NotStored, NotAllStored) as error:
            story.problems.append(f"{sent.name} was not stored: {error}")
            story.sent.remove(sent)
            continue
        took = story.send_s[sent.name] = time.monotonic() - began
        say(f"{sent.name}: {len(sent.study.instances)} images by {sent.door} in {took:.1f} s")
    say("waiting for the jobs")
    wanted = {s.study.series_instance_uid: len(BUNDLED) if s.truth is not None else 1 for s in story.sent}
    name_of = {s.study.series_instance_uid: s.name for s in series}
    told: set[str] = set()

    def tell(jobs: list[Job]) -> None:
        for job in jobs:
            if job["finished_at"] is not None and job["id"] not in told:
                told.add(job["id"])
                say(f"{name_of[job['series_instance_uid']]}: {job['pipeline']} {job['state']}")

    ended = client.wait_for_jobs(wanted, deadline_s=DEADLINE_S, seen=tell)
    say("fetching results by WADO-RS, drawing contact sheets")
    for sent in story.sent:
        of_it = [job for job in ended if job["series_instance_uid"] == sent.study.series_instance_uid]
        story.jobs[sent.name] = [client.job(job["id"]) for job in of_it]
        story.results += fetch(client, sent, story.jobs[sent.name], folder / "results")
    story.problems += _problems(story)
    return story


def _send(server: LightboxServer, sent: Sent) -> None:
    files = sent.study.instances
    if sent.door == "STOW-RS":
        server.client().store([instance.data for instance in files])
        return
    send_by_cstore(
        files,
        server.dimse_host,
        server.dimse_port,
        called_ae_title=server.ae_title,
        calling_ae_title="DEMO",
    )


def _problems(story: Story) -> list[str]:
    found = [
        f"{sent.name}: {job['pipeline']} {job['state']}: {job['message']}"
        for sent in story.sent
        for job in story.jobs[sent.name]
        if job["state"] == "FAILED" or (job["state"] == "REFUSED" and sent.truth is not None)
    ]
    for result in story.results:
        found += [
            f"{result.sent.name}: {segment} has a Dice of {score:.3f} against the truth"
            for segment, score in result.dice.items()
            if score < DICE_ABSURD
        ]
    return found


def _tell(story: Story, took_s: float, as_json_document: bool) -> None:
    if as_json_document:
        sys.stdout.write(json.dumps(as_json(story, took_s), indent=2) + "\n")
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print()
    print_story(console, story)
    console.print(f"{took_s:.1f} s in all. Research use only.")


def _stay(server: LightboxServer, say: Say) -> None:
    """Until Ctrl-C, or until the server ends."""
    console = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)
    for line in (
        "",
        "The server stays up until Ctrl-C. Try:",
        f"  lightbox send FOLDER --to {server.dimse_host}:{server.dimse_port} --aet {server.ae_title}",
        f"  lightbox send FOLDER --url {server.http}",
        f"  storescu -aec {server.ae_title} +sd {server.dimse_host} {server.dimse_port} FOLDER   (dcmtk)",
        f"  lightbox jobs --url {server.http}",
        f"  curl {server.http}/api/jobs     {server.http}/metrics     {server.http}/dicom-web/studies",
    ):
        console.print(line)
    try:
        while server.is_running():
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("stopping")
        return
    raise DemoFailed(f"the server has ended: {server.log_tail(1)}")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lightbox demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("lightbox-demo"), help="for data and results")
    parser.add_argument("--dicom", type=Path, metavar="FOLDER", help="a CT series of yours, sent as well")
    parser.add_argument("--slices", type=int, default=SLICES, help="of each made-up patient")
    parser.add_argument("--stay", action="store_true", help="keep the server up until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _leave(signal_number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signal_number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

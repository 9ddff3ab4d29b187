"""C-STORE with dcmtk's storescu at its defaults, one association and four at once: Lightbox and Orthanc.

Lightbox has the bundled pipelines promoted and routes every series; jobs of one round end before the next.
Every image is written, synced and journalled before its success status. storescp is shown beside it: it syncs
nothing, so it says what the sender and the loopback can do, not what a server may do.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from loadtest.benches.figures import Findings, at_least, figure
from loadtest.benches.generated import chest_template
from loadtest.benches.peers import orthanc, storescp, storescu
from loadtest.benches.rounds import in_turn
from loadtest.benches.say import Say
from loadtest.server import CLASSICAL, LightboxServer, fill_store
from loadtest.studies import StudyTemplate

ASSOCIATIONS = 4
REQUIRED_PER_S = 150.0
_DONE_DEADLINE_S = 300.0


def run(quick: bool, say: Say) -> Findings:
    """Images per second at both ends, in turn."""
    images, rounds = (120, 1) if quick else (300, 3)
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as name:
        folder = Path(name)
        say(f"generating {images} images of 512 x 512")
        template = chest_template(folder / "template", 1, images)
        say("compiling and promoting the bundled pipelines")
        fill_store(folder / "store", CLASSICAL, tenants={"local": CLASSICAL})
        with (
            LightboxServer(folder=folder / "data", store=folder / "store") as server,
            orthanc() as (orthanc_port, _),
            storescp() as storescp_port,
        ):
            sender = _Sender(folder / "outgoing", template, say)
            sender.send_to("Lightbox, to warm up", server.dimse_port, server.ae_title, 1)
            sender.wait(server)
            sides = _sides(sender, server, orthanc_port, storescp_port)
            seconds = in_turn(sides, rounds)
    return _findings({name: [images / s for s in times] for name, times in seconds.items()}, images)


class _Sender:
    """Sends copies of one series under new UIDs; remembers which studies went to Lightbox."""

    def __init__(self, folder: Path, template: StudyTemplate, say: Say) -> None:
        self._folder, self._template, self._say = folder, template, say

    def send_to(self, who: str, port: int, ae_title: str, associations: int) -> float:
        """Seconds for all images, split evenly over associations, each a study of its own."""
        share = len(self._template.study.instances) // associations
        studies = [
            self._template.copy(uuid.uuid4().hex, first=n * share, count=share) for n in range(associations)
        ]
        groups = [study.write(self._folder / str(n)) for n, study in enumerate(studies)]
        os.sync()  # our own files are not to be written while the receiver syncs its own
        self._sent = dict.fromkeys((study.series_instance_uid for study in studies), len(CLASSICAL))
        seconds = storescu(port, ae_title, groups)
        shutil.rmtree(self._folder)
        rate = share * associations / seconds
        self._say(f"{who}, {associations} association(s): {rate:.0f} images/s")
        return seconds

    def wait(self, server: LightboxServer) -> None:
        """Until the jobs of what was sent last have ended."""
        server.client().wait_for_jobs(self._sent, deadline_s=_DONE_DEADLINE_S, poll_s=0.25)


def _sides(
    sender: _Sender, server: LightboxServer, orthanc_port: int, storescp_port: int
) -> Mapping[str, Callable[[int], float]]:
    """What is measured in each round, in this order."""

    def lightbox(associations: int) -> float:
        seconds = sender.send_to("Lightbox", server.dimse_port, server.ae_title, associations)
        sender.wait(server)
        return seconds

    return {
        "lightbox 1": lambda _: lightbox(1),
        "orthanc 1": lambda _: sender.send_to("Orthanc", orthanc_port, "ORTHANC", 1),
        "storescp 1": lambda _: sender.send_to("storescp", storescp_port, "STORESCP", 1),
        "lightbox 4": lambda _: lightbox(ASSOCIATIONS),
        "orthanc 4": lambda _: sender.send_to("Orthanc", orthanc_port, "ORTHANC", ASSOCIATIONS),
        "storescp 4": lambda _: sender.send_to("storescp", storescp_port, "STORESCP", ASSOCIATIONS),
    }


def _findings(rates: Mapping[str, list[float]], images: int) -> Findings:
    figures = {}
    for count in (1, ASSOCIATIONS):
        for peer, note in (("orthanc", ""), ("storescp", "storescp syncs nothing")):
            ours, theirs = rates[f"lightbox {count}"], rates[f"{peer} {count}"]
            key = f"{count} association{'s' * (count > 1)}, {peer}"
            figures[key] = figure(ours, theirs, unit="images/s", better="higher", note=note)
    one = figures["1 association, orthanc"].lightbox
    four = figures[f"{ASSOCIATIONS} associations, orthanc"].lightbox
    return Findings(
        figures=figures,
        bars=[
            at_least("one association, every image synced", one, REQUIRED_PER_S, "images/s"),
            at_least("four associations together, against one", four, one, "images/s"),
        ],
        notes=[
            f"{images} generated CT images of 512 x 512 int16 a round; dcmtk's storescu at its defaults, its "
            "start included; Lightbox routes to the bundled pipelines; storescp is not durable."
        ],
    )

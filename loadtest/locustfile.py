"""Locust users of a Lightbox server: modalities that send by C-STORE and STOW-RS, readers that fetch results.

    locust -f loadtest/locustfile.py --headless --users 5 --run-time 60s --host http://127.0.0.1:8640 \
        --dimse LIGHTBOX@127.0.0.1:11112 --series FOLDER

FOLDER holds one generated CT series (`lightbox phantom`); every study sent is a copy of it under new UIDs.
Beside each door's own times, `time-to-result` is reported per door: from the last image's acknowledgement
until every pipeline has answered, as the sender sees it.
"""

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from locust import User, between, events, task
from locust.exception import RescheduleTask

from loadtest.client import Job, LightboxClient
from loadtest.senders import send_by_cstore
from loadtest.studies import Study, StudyTemplate

RESULT_DEADLINE_S = 120.0
FINISHED: deque[tuple[Job, dict[str, Any]]] = deque(maxlen=64)
"""Completed jobs and one result of each, for readers to fetch."""


@events.init_command_line_parser.add_listener
def add_arguments(parser: Any, **_: Any) -> None:
    """What a run must be told."""
    parser.add_argument("--series", required=True, help="folder with one generated CT series")
    parser.add_argument("--dimse", default="LIGHTBOX@127.0.0.1:11112", help="AE@HOST:PORT for C-STORE")
    parser.add_argument("--api-key", default="", help="of the tenant to speak for", is_secret=True)


@events.test_start.add_listener
def prepare(environment: Any, **_: Any) -> None:
    """Read the template once, and learn how many jobs a study gives."""
    options = environment.parsed_options
    environment.template = StudyTemplate.read(Path(options.series))
    environment.jobs_per_study = len(
        LightboxClient(base_url=environment.host, api_key=options.api_key).promoted()
    )
    if environment.jobs_per_study == 0:
        raise RuntimeError("no pipeline is promoted there, so no study would give a result")


class LightboxUser(User):
    """What every user has: a client, and a way to report what it did."""

    abstract = True
    wait_time = between(0.2, 1.0)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        options = environment.parsed_options
        self.client = LightboxClient(base_url=environment.host, api_key=options.api_key)

    @contextmanager
    def reported(self, kind: str, name: str) -> Iterator[Callable[[int], None]]:
        """Report the time of the block as one request; the function given takes the bytes that moved."""
        moved = [0]
        began, failure = time.perf_counter(), None
        try:
            yield lambda size: moved.append(size)
        except Exception as error:  # every failure is a figure of the run, none ends the user
            failure = error
            raise RescheduleTask from error
        finally:
            self.environment.events.request.fire(
                request_type=kind,
                name=name,
                response_time=1000 * (time.perf_counter() - began),
                response_length=sum(moved),
                exception=failure,
                context={},
            )


class Sender(LightboxUser):
    """Sends a study by its door, waits for all its jobs."""

    abstract = True
    door = ""

    def send(self, study: Study) -> None:
        """Send every image; returns once all are acknowledged."""
        raise NotImplementedError

    @task
    def study(self) -> None:
        """One study, from the first image to the last result."""
        study = self.environment.template.copy(uuid.uuid4().hex)
        with self.reported(self.door, "series") as moved:
            self.send(study)
            moved(sum(len(instance.data) for instance in study.instances))
        with self.reported(self.door, "time-to-result"):
            jobs = self.client.wait_for_jobs(
                {study.series_instance_uid: self.environment.jobs_per_study},
                deadline_s=RESULT_DEADLINE_S,
                poll_s=0.1,
            )
            if bad := [
                f"{job['pipeline']} {job['state']} {job['reason']}" for job in jobs if not job["results"]
            ]:
                raise RuntimeError("no result: " + ", ".join(bad))
        FINISHED.extend((job, result) for job in jobs for result in job["results"])


class CStoreModality(Sender):
    """A modality that sends over DIMSE."""

    weight = 2
    door = "C-STORE"

    def send(self, study: Study) -> None:
        """One association."""
        called, _, address = self.environment.parsed_options.dimse.partition("@")
        host, _, port = address.rpartition(":")
        send_by_cstore(study.instances, host, int(port), called_ae_title=called)


class StowModality(Sender):
    """A modality that sends over DICOMweb."""

    weight = 2
    door = "STOW-RS"

    def send(self, study: Study) -> None:
        """One request."""
        self.client.store([instance.data for instance in study.instances])


class Reader(LightboxUser):
    """Fetches results that others have waited for."""

    weight = 1

    @task(2)
    def wado(self) -> None:
        """One SEG by WADO-RS."""
        if not FINISHED:
            return
        job, result = FINISHED[uuid.uuid4().int % len(FINISHED)]
        with self.reported("WADO-RS", "result") as moved:
            series, sop = result["series_instance_uid"], result["sop_instance_uid"]
            (segmentation,) = self.client.retrieve(job["study_instance_uid"], series, sop)
            _must_be_dicom(segmentation)
            moved(len(segmentation))

    @task(1)
    def api(self) -> None:
        """One SEG by the API."""
        if not FINISHED:
            return
        job, result = FINISHED[uuid.uuid4().int % len(FINISHED)]
        with self.reported("API", "result") as moved:
            segmentation = self.client.result(job["id"], result["output"])
            _must_be_dicom(segmentation)
            moved(len(segmentation))


def _must_be_dicom(data: bytes) -> None:
    if data[128:132] != b"DICM":
        raise RuntimeError("not a DICOM file")

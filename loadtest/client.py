"""A client of Lightbox over HTTP: jobs, results, metrics, STOW-RS and WADO-RS. Standard library only.

One connection a request: the load is in the images, and a client without state is safe in any thread.
"""

import http.client
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlencode, urlsplit

Json: TypeAlias = Any
Job: TypeAlias = dict[str, Json]
"""One element of /api/jobs."""

ENDED = ("COMPLETED", "REFUSED", "FAILED")
DICOM = "application/dicom"


class ServerSaid(Exception):
    """An answer other than success. `status` is the HTTP status, `text` the beginning of the body."""

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        self.status, self.text = status, text
        super().__init__(f"{method} {path}: {status} {text[:300]}")


class NotAllStored(Exception):
    """A STOW-RS response does not list every image as stored."""


class TookTooLong(Exception):
    """What was waited for did not come in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LightboxClient:
    """base_url: such as http://127.0.0.1:8640. api_key: of the tenant to speak for; none for `local`."""

    base_url: str
    api_key: str = ""
    timeout_s: float = 60.0

    def get(self, path: str, *, accept: str = "*/*", **query: str | int) -> bytes:
        """The body of a successful answer. Raises: ServerSaid, OSError."""
        where = f"{path}?{urlencode(query)}" if query else path
        return self._request("GET", where, headers={"Accept": accept})

    def get_json(self, path: str, **query: str | int) -> Json:
        """The decoded body of a successful answer."""
        return json.loads(self.get(path, accept="application/json", **query))

    def is_ready(self) -> bool:
        """Whether the server answers and says that every part of it is up."""
        try:
            self.get("/readyz")
        except (OSError, http.client.HTTPException, ServerSaid):
            return False
        return True

    def status(self) -> Json:
        """What runs there and which pipelines are promoted."""
        return self.get_json("/api/status")

    def promoted(self) -> list[str]:
        """Names of the pipelines that this tenant has promoted, sorted."""
        return sorted(item["pipeline"] for item in self.status()["promoted"])

    def jobs(self, **query: str | int) -> list[Job]:
        """Jobs, narrowed by study, series, state, limit."""
        found: list[Job] = self.get_json("/api/jobs", **query)
        return found

    def job(self, job_id: str) -> Job:
        """One job with its stages and deliveries."""
        found: Job = self.get_json(f"/api/jobs/{job_id}")
        return found

    def result(self, job_id: str, output: str) -> bytes:
        """One result as a DICOM file."""
        return self.get(f"/api/jobs/{job_id}/results/{output}")

    def retrieve(self, study: str, series: str = "", sop: str = "") -> list[bytes]:
        """WADO-RS: the instances of a study, a series or one instance, as DICOM files."""
        path = f"/dicom-web/studies/{study}"
        if series:
            path += f"/series/{series}"
        if sop:
            path += f"/instances/{sop}"
        headers = {"Accept": f'multipart/related; type="{DICOM}"'}
        content_type, body = self._exchange("GET", path, headers=headers)
        return multipart_parts(content_type, body)

    def stow(self, files: Sequence[bytes]) -> Json:
        """STOW-RS: store DICOM files in one request. Returns the response dataset in DICOM JSON."""
        boundary = uuid.uuid4().hex
        headers = {
            "Content-Type": f'multipart/related; type="{DICOM}"; boundary={boundary}',
            "Accept": "application/dicom+json",
        }
        return json.loads(
            self._request("POST", "/dicom-web/studies", headers, multipart_body(files, boundary))
        )

    def store(self, files: Sequence[bytes]) -> None:
        """STOW-RS: store DICOM files in one request. Raises: NotAllStored unless all are listed as stored."""
        stored = len(self.stow(files).get("00081199", {}).get("Value", []))
        if stored < len(files):
            raise NotAllStored(f"{len(files) - stored} of {len(files)} images were not stored")

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Samples of /metrics: name -> ((label, value), ...) -> number."""
        from prometheus_client.parser import text_string_to_metric_families

        samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(self.get("/metrics").decode()):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return samples

    def wait_for_jobs(
        self,
        wanted: Mapping[str, int],
        *,
        deadline_s: float,
        poll_s: float = 0.1,
        seen: Callable[[list[Job]], None] = lambda jobs: None,
    ) -> list[Job]:
        """Wait until every series has at least as many jobs as wanted and all of them have ended.

        wanted: Series Instance UID -> number of jobs. seen: told of all their jobs at each look.
        Raises: TookTooLong after `deadline_s`.
        """
        until = time.monotonic() + deadline_s
        while True:
            by_series = {uid: self.jobs(series=uid) for uid in wanted}
            found = [job for jobs in by_series.values() for job in jobs]
            seen(found)
            enough = all(len(by_series[uid]) >= count for uid, count in wanted.items())
            if enough and all(job["state"] in ENDED for job in found):
                return found
            if time.monotonic() > until:
                states = ", ".join(f"{job['pipeline']} {job['state']}" for job in found) or "no job at all"
                raise TookTooLong(f"not done after {deadline_s:g} s: {states}")
            time.sleep(poll_s)

    def _request(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
        return self._exchange(method, path, headers, body)[1]

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[str, bytes]:
        """Content-Type and body of a successful answer."""
        if self.api_key:
            headers = {**headers, "X-Api-Key": self.api_key}
        connection = http.client.HTTPConnection(urlsplit(self.base_url).netloc, timeout=self.timeout_s)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            raise ServerSaid(method, path.partition("?")[0], response.status, answer.decode(errors="replace"))
        return response.getheader("Content-Type", ""), answer


def multipart_body(parts: Sequence[bytes], boundary: str) -> bytes:
    """multipart/related with one application/dicom part each (RFC 2387, PS3.18 8.6.1.2)."""
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    return (
        b"".join(piece for part in parts for piece in (head, part, b"\r\n")) + f"--{boundary}--\r\n".encode()
    )


def multipart_parts(content_type: str, body: bytes) -> list[bytes]:
    """The bodies of the parts; the body itself where it is not multipart."""
    if "multipart/" not in content_type.lower():
        return [body]
    boundary = next(
        value.strip().removeprefix("boundary=").strip('"')
        for value in content_type.split(";")
        if value.strip().startswith("boundary=")
    )
    pieces = (b"\r\n" + body).split(f"\r\n--{boundary}".encode())[1:-1]
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces]

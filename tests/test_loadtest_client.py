"""The HTTP client of loadtest against a server of a few lines."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from loadtest.client import (
    LightboxClient,
    NotAllStored,
    ServerSaid,
    TookTooLong,
    multipart_body,
    multipart_parts,
)


class Stub:
    """Answers with what `answers` holds for a path, in turn; the last answer stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, str, bytes]]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stub.requests.append((self.command, self.path, dict(self.headers), body))
                known = stub.answers.get(self.path.partition("?")[0], [(404, "text/plain", b"no such thing")])
                status, kind, answer = known.pop(0) if len(known) > 1 else known[0]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _answer  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, path: str, *answers: Any, status: int = 200) -> None:
        self.answers[path] = [(status, "application/json", json.dumps(a).encode()) for a in answers]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    one = Stub()
    yield one
    one.close()


def job(state: str) -> dict[str, Any]:
    return {"id": "1", "pipeline": "ct-lungs", "state": state}


def test_parts_come_out_of_a_multipart_body_as_they_went_in() -> None:
    parts = [b"one", b"\r\n--two\r\n\r\n", bytes(range(256))]
    kind = 'multipart/related; type="application/dicom"; boundary="edge"'
    assert multipart_parts(kind, multipart_body(parts, "edge")) == parts


def test_waiting_ends_when_every_series_has_its_jobs_and_all_have_ended(stub: Stub) -> None:
    looks: list[list[Any]] = []
    stub.says("/api/jobs", [], [job("QUEUED")], [job("RUNNING")], [job("COMPLETED")])
    client = LightboxClient(base_url=stub.url)
    done = client.wait_for_jobs({"1.2": 1}, deadline_s=30, poll_s=0, seen=looks.append)
    assert [j["state"] for j in done] == ["COMPLETED"]
    assert len(looks) == 4
    assert stub.requests[0][1] == "/api/jobs?series=1.2"


def test_waiting_gives_up_after_its_deadline_and_says_what_is_missing(stub: Stub) -> None:
    stub.says("/api/jobs", [job("RUNNING")])
    with pytest.raises(TookTooLong, match="ct-lungs RUNNING"):
        LightboxClient(base_url=stub.url).wait_for_jobs({"1.2": 1}, deadline_s=0.0, poll_s=0)


def test_an_answer_other_than_success_is_raised_with_its_status(stub: Stub) -> None:
    with pytest.raises(ServerSaid, match="404 no such thing") as raised:
        LightboxClient(base_url=stub.url).get("/nowhere", study="1.2.3")
    assert raised.value.status == 404
    assert "1.2.3" not in str(raised.value)


def test_a_key_goes_with_every_request(stub: Stub) -> None:
    stub.says("/api/status", {"promoted": [{"pipeline": "b"}, {"pipeline": "a"}]})
    assert LightboxClient(base_url=stub.url, api_key="secret").promoted() == ["a", "b"]
    assert stub.requests[0][2]["X-Api-Key"] == "secret"


def test_stow_sends_one_part_a_file(stub: Stub) -> None:
    stub.says("/dicom-web/studies", {"00081199": {}})
    assert LightboxClient(base_url=stub.url).stow([b"one", b"two"]) == {"00081199": {}}
    _, _, headers, body = stub.requests[0]
    assert multipart_parts(headers["Content-Type"], body) == [b"one", b"two"]


def test_images_that_are_not_listed_as_stored_are_missed(stub: Stub) -> None:
    stored = {"00081199": {"vr": "SQ", "Value": [{}]}}
    stub.says("/dicom-web/studies", stored)
    LightboxClient(base_url=stub.url).store([b"one"])
    with pytest.raises(NotAllStored, match="1 of 2"):
        LightboxClient(base_url=stub.url).store([b"one", b"two"])


def test_metrics_are_read_by_name_and_labels(stub: Stub) -> None:
    text = b'# TYPE runs counter\nruns_total{stage="decode",pool="gil"} 3.0\n'
    stub.answers["/metrics"] = [(200, "text/plain", text)]
    samples = LightboxClient(base_url=stub.url).metrics()
    assert samples["runs_total"] == {(("pool", "gil"), ("stage", "decode")): 3.0}


def test_nobody_listening_is_not_ready() -> None:
    assert not LightboxClient(base_url="http://127.0.0.1:1").is_ready()

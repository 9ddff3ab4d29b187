"""`lightbox send` and deliveries, against our own front doors and against nobody."""

import gc
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from serving.cli.main import app
from serving.config import Destination
from serving.dicom.delivery import MAX_BACKOFF_S, DeliveryFailed, backoff_s, send_file
from serving.dicom.sending import StowAnswer, stow_answer
from serving.errors import NoCapacity
from tests.dicom_front import Front, ct_image, ct_series, running_front


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with running_front(tmp_path_factory.mktemp("front")) as front:
        yield front


@pytest.fixture
def front(shared_front: Front) -> Front:
    shared_front.received.clear()
    shared_front.refusal = None
    return shared_front


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is taken and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def send(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["send", *(str(argument) for argument in arguments)])


def said(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.mark.parametrize("way", ["--to", "--url"])
def test_a_folder_is_sent_whole_and_what_is_no_dicom_is_skipped(
    front: Front, tmp_path: Path, way: str
) -> None:
    ct_series(tmp_path / "ct" / "deep", 3)
    (tmp_path / "ct" / "notes.txt").write_text("not an image")
    where = f"{front.host}:{front.port}" if way == "--to" else front.url
    result = send(tmp_path / "ct", way, where, "--json")
    assert result.exit_code == 0, result.stderr
    assert said(result)["stored"] == 3
    assert [Path(one["path"]).name for one in said(result)["skipped"]] == ["notes.txt"]
    assert len(front.received) == 3


@pytest.mark.parametrize("way", ["--to", "--url"])
def test_what_is_refused_is_named_and_the_exit_code_says_so(front: Front, tmp_path: Path, way: str) -> None:
    (file,) = ct_series(tmp_path, 1)
    front.refusal = NoCapacity("The journal cannot be written.")
    where = f"{front.host}:{front.port}" if way == "--to" else front.url
    result = send(file, way, where, "--json")
    assert result.exit_code == 1
    (refused,) = said(result)["refused"]
    assert refused["path"] == str(file)
    assert refused["status"] == 0xA700


def test_a_file_whose_header_the_server_cannot_read_is_not_said_to_be_stored(
    front: Front, tmp_path: Path
) -> None:
    ct_series(tmp_path, 1)
    image = ct_image()
    del image.SeriesInstanceUID
    image.save_as(tmp_path / "no-series.dcm", enforce_file_format=True)
    result = send(tmp_path, "--url", front.url, "--json")
    assert result.exit_code == 1
    assert said(result)["stored"] == 1
    (refused,) = said(result)["refused"]
    assert Path(refused["path"]).name == "no-series.dcm"
    assert refused["status"] == 0xC000


def test_only_what_a_server_lists_as_stored_is_stored() -> None:
    def listed(*items: tuple[str, int]) -> dict[str, Any]:
        return {
            "vr": "SQ",
            "Value": [{"00081155": value(uid), "00081197": value(code)} for uid, code in items],
        }

    def value(one: object) -> dict[str, Any]:
        return {"vr": "UI", "Value": [one]}

    answer = stow_answer({"00081199": listed(("1.1", 0)), "00081198": listed(("1.2", 0xA700))})
    assert answer == StowAnswer(frozenset({"1.1"}), {"1.2": 0xA700}, ())
    assert stow_answer({}) == StowAnswer(frozenset(), {}, ())


def test_compressed_files_go_in_their_own_syntax(front: Front, shared_data: Path) -> None:
    folders = [shared_data / "dicom" / "small" / name for name in ("mr-jpegll", "mr-j2k", "mr-rle")]
    assert send(*folders, "--to", f"{front.host}:{front.port}").exit_code == 0
    assert len({instance.transfer_syntax_uid for instance in front.received}) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "either --to HOST:PORT (C-STORE) or --url URL (STOW-RS)"),
        (["--to", "nowhere"], "'nowhere' is no HOST:PORT"),
        (["--url", "ftp://x"], "no http or https address"),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (file,) = ct_series(tmp_path, 1)
    result = send(file, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see collect_leaked_sockets
def test_nobody_there_and_rejections_are_said(front: Front, nobody: int, tmp_path: Path) -> None:
    (file,) = ct_series(tmp_path, 1)
    assert "does not answer" in send(file, "--to", f"127.0.0.1:{nobody}").stderr
    assert "no server answers" in send(file, "--url", f"http://127.0.0.1:{nobody}").stderr
    rejected = send(file, "--to", f"{front.host}:{front.port}", "--aet", "NOBODY")
    assert rejected.exit_code == 2
    assert "it is not called 'NOBODY'" in rejected.stderr
    wrong_key = send(file, "--url", front.url, "--api-key", "wrong")
    assert "This API key is not known here." in wrong_key.stderr
    assert send(tmp_path / "absent", "--url", front.url).exit_code == 2
    collect_leaked_sockets()


def collect_leaked_sockets() -> None:
    """pynetdicom leaves sockets that failed to connect to the garbage collector; not to other tests."""
    gc.collect()


def destination(front: Front, **changes: Any) -> Destination:
    values = {"name": "pacs", "ae_title": "LIGHTBOX", "host": front.host, "port": front.port}
    return Destination(**(values | changes))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see collect_leaked_sockets
def test_a_delivery_arrives_or_says_why_not(front: Front, nobody: int, tmp_path: Path) -> None:
    (file,) = ct_series(tmp_path, 1)
    send_file(file, destination(front))
    assert len(front.received) == 1
    with pytest.raises(DeliveryFailed, match="rejected the association"):
        send_file(file, destination(front, ae_title="NOBODY"))
    with pytest.raises(DeliveryFailed, match="does not answer"):
        send_file(file, destination(front, port=nobody))
    front.refusal = NoCapacity("full")
    other = tmp_path / "other.dcm"
    ct_image().save_as(other, enforce_file_format=True)
    with pytest.raises(DeliveryFailed, match="0xA700"):
        send_file(other, destination(front))
    collect_leaked_sockets()


def test_the_wait_between_attempts_doubles_up_to_a_limit() -> None:
    pacs = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, backoff_s=2.0)
    assert [backoff_s(pacs, attempts) for attempts in range(4)] == [2.0, 4.0, 8.0, 16.0]
    assert backoff_s(pacs, 1000) == MAX_BACKOFF_S

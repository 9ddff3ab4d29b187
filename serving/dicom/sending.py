"""Sending files as a modality does: by C-STORE over one association, or by STOW-RS. Blocks."""

import json
import mmap
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from serving.dicom.header import elements, file_meta
from serving.errors import RequestError

_TIMEOUT_S = 60.0
"""For the association and for each answer."""
_AE_CHARACTERS = 16
"""Of value representation AE (PS3.5 table 6.2-1)."""
_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8 table 9-11: odd IDs from 1 to 255)."""
_REQUEST_BYTES = 64 << 20
"""One STOW-RS request holds about so much: large enough to be quick, small enough to show progress."""
_CHUNK_BYTES = 1 << 20
_PROCESSING_FAILURE = 0x0110
_SOP_CLASS_UID, _SOP_INSTANCE_UID = 0x00080016, 0x00080018


class NotSent(Exception):
    """Nothing more can be sent to this destination; the message says why."""


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file that can be sent."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file. `status` 0: stored; otherwise why not, in the words of the receiver."""

    path: Path
    status: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class StowAnswer:
    """What a STOW-RS response says of its files, by SOP Instance UID."""

    stored: frozenset[str]
    """Referenced SOP Sequence (0008,1199)."""
    failed: Mapping[str, int]
    """Failed SOP Sequence (0008,1198): the Failure Reason of each."""
    unreadable: tuple[int, ...]
    """Other Failures Sequence (0008,119A): reasons for files whose UIDs the server could not read."""


Done = Callable[[Sent], None]


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Files, and all files in folders, in order of name. Raises: FileNotFoundError."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(2, "No such file or directory", str(path))


def read_file(path: Path) -> DicomFile:
    """What must be known to send it. Raises: RequestError if it is no DICOM file (PS3.10)."""
    with path.open("rb") as file:
        size = path.stat().st_size
        data = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else b""
        syntax, start = file_meta(data)
        raw = elements(data, syntax, (_SOP_CLASS_UID, _SOP_INSTANCE_UID), start)
    sop_class, sop_instance = (
        raw.get(tag, b"").decode("latin_1").strip("\0 ") for tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID)
    )
    if not sop_class or not sop_instance:
        raise RequestError("SOP Class UID (0008,0016) or SOP Instance UID (0008,0018) is empty.")
    return DicomFile(path, sop_class, sop_instance, syntax)


def send_by_cstore(
    files: Sequence[DicomFile], host: str, port: int, *, called: str, calling: str, done: Done
) -> None:
    """C-STORE every file as it is, in its own transfer syntax. Raises: NotSent."""
    from pynetdicom import AE, _config
    from pynetdicom.presentation import build_context

    _config.STORE_SEND_CHUNKED_DATASET = True  # the file's own bytes; nothing is decoded
    kinds = iter(sorted({(file.sop_class_uid, file.transfer_syntax_uid) for file in files}))
    while some := list(islice(kinds, _CONTEXTS)):
        try:
            entity = AE(ae_title=calling)
        except ValueError as error:
            raise NotSent(f"'{calling}' is no AE title: 1 to 16 characters") from error
        if not 1 <= len(called) <= _AE_CHARACTERS:
            raise NotSent(f"'{called}' is no AE title: 1 to {_AE_CHARACTERS} characters")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        entity.requested_contexts = [build_context(sop_class, syntax) for sop_class, syntax in some]
        association = entity.associate(host, port, ae_title=called)
        if not association.is_established:
            raise NotSent(_not_established(association, host, port, called))
        try:
            for file in files:
                if (file.sop_class_uid, file.transfer_syntax_uid) in some:
                    done(_store(association, file))
        finally:
            association.release()


def send_by_stow(files: Sequence[DicomFile], url: str, *, api_key: str | None, done: Done) -> None:
    """POST every file to `url`/dicom-web/studies (or to a URL that ends in /studies). Raises: NotSent."""
    if not url.startswith(("http://", "https://")):
        raise NotSent(f"{url} is no http or https address")
    url = url.rstrip("/")
    target = url if "/studies" in url else f"{url}/dicom-web/studies"
    for group in _groups(files):
        answer = _post(group, target, api_key)
        for file in group:
            done(_outcome(file, answer))


def _store(association: Any, file: DicomFile) -> Sent:
    _wait_for_reactor(association)
    try:
        status = association.send_c_store(file.path)
    except ValueError:
        return Sent(file.path, 0x0122, "its SOP class or transfer syntax was not accepted")
    except RuntimeError as error:
        raise NotSent("the receiver ended the association") from error
    code = status.get("Status")
    if code is None:
        raise NotSent("the receiver closed the connection without an answer")
    if code == 0 or code & 0xF000 == 0xB000:  # a warning is a success (PS3.4 table B.2-1)
        return Sent(file.path, 0)
    return Sent(file.path, code, str(status.get("ErrorComment", "")) or f"status 0x{code:04X}")


def _wait_for_reactor(association: Any) -> None:
    """Let pynetdicom's own thread take up its work again after the last request.

    It is released when a request ends, but says that it is paused until it has woken; a request sent in
    between is answered to that thread, which drops the answer.
    """
    until = time.monotonic() + _TIMEOUT_S
    while association._is_paused and association.is_established and time.monotonic() < until:
        time.sleep(0.0002)


def _not_established(association: Any, host: str, port: int, called: str) -> str:
    if not association.is_rejected:
        return f"{host}:{port} does not answer"
    reason = {3: "it does not know the calling AE title", 7: f"it is not called '{called}'"}
    diagnostic = association.acceptor.primitive.diagnostic
    return f"{host}:{port} rejected the association: {reason.get(diagnostic, 'it gave no reason')}"


def _groups(files: Sequence[DicomFile]) -> Iterator[list[DicomFile]]:
    group: list[DicomFile] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.path.stat().st_size
        if size >= _REQUEST_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _post(group: Sequence[DicomFile], url: str, api_key: str | None) -> StowAnswer:
    """One STOW-RS request. Raises: NotSent if the answer does not tell what became of the files."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + file.path.stat().st_size + 2 for file in group) + len(tail)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(length),
        "Accept": "application/dicom+json",
        **({"X-Api-Key": api_key} if api_key else {}),
    }
    request = urllib.request.Request(url, _body(group, head, tail), headers)  # noqa: S310 - http(s), checked
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            answer = response.read()
    except urllib.error.HTTPError as error:
        answer = error.read()
        if b"00081198" not in answer and b"0008119A" not in answer:  # it is not about the files
            raise NotSent(_said(answer) or f"the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise NotSent(f"no server answers at {url}: {getattr(error, 'reason', error)}") from error
    try:
        return stow_answer(json.loads(answer))
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise NotSent(f"what {url} answers is no STOW-RS response in JSON") from error


def _body(group: Sequence[DicomFile], head: bytes, tail: bytes) -> Iterator[bytes]:
    for file in group:
        yield head
        with file.path.open("rb") as data:
            while chunk := data.read(_CHUNK_BYTES):
                yield chunk
        yield b"\r\n"
    yield tail


def stow_answer(answer: dict[str, Any]) -> StowAnswer:
    """Read a Store Instances Response Module (PS3.18 Annex I). Raises: what reading wrong JSON raises."""

    def items(tag: str) -> Sequence[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = answer.get(tag, {}).get("Value", [])
        return found

    def reason(item: dict[str, Any]) -> int:
        return int(item["00081197"]["Value"][0])

    return StowAnswer(
        stored=frozenset(item["00081155"]["Value"][0] for item in items("00081199")),
        failed={item["00081155"]["Value"][0]: reason(item) for item in items("00081198")},
        unreadable=tuple(reason(item) for item in items("0008119A")),
    )


def _outcome(file: DicomFile, answer: StowAnswer) -> Sent:
    """Stored is only what the server lists as stored."""
    code = answer.failed.get(file.sop_instance_uid)
    if code is not None:
        return Sent(file.path, code, f"failure reason 0x{code:04X}")
    if file.sop_instance_uid in answer.stored:
        return Sent(file.path, 0)
    code = next(iter(answer.unreadable), _PROCESSING_FAILURE)
    return Sent(file.path, code, f"not among what the server lists as stored (failure reason 0x{code:04X})")


def _said(answer: bytes) -> str:
    try:
        return str(json.loads(answer).get("error", ""))
    except (ValueError, AttributeError):
        return ""

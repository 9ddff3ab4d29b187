"""What the end-to-end tests share: sending with Debian's own clients, reading SEG back onto the source."""

import subprocess
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from loadtest.server import LightboxServer
from tests.conftest import program

DEADLINE_S = 120.0


def storescu(server: LightboxServer, *paths: Path, called: str | None = None) -> subprocess.CompletedProcess[str]:
    """Send files or folders with dcmtk at its defaults; its exit code and words are the caller's to judge."""
    arguments = [program("storescu", "dcmtk"), "-v", "-aec", called or server.ae_title]
    arguments += ["+sd", "+r", server.dimse_host, str(server.dimse_port), *map(str, paths)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def send(server: LightboxServer, *paths: Path, called: str | None = None) -> None:
    """Send, and expect every image to be taken."""
    done = storescu(server, *paths, called=called)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def study_of(folder: Path) -> str:
    """The Study Instance UID of the files in a folder."""
    first = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    return str(dcmread(first, stop_before_pixels=True).StudyInstanceUID)


def masks(seg: bytes | Dataset) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Segment label -> SOP Instance UID of the source image -> mask[rows, columns], of a BINARY SEG."""
    dataset = dcmread(BytesIO(seg)) if isinstance(seg, bytes) else seg
    pixels = np.atleast_3d(dataset.pixel_array).reshape(-1, dataset.Rows, dataset.Columns).astype(bool)
    labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in dataset.SegmentSequence}
    found: dict[str, dict[str, NDArray[np.bool_]]] = {label: {} for label in labels.values()}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        of_one = groups if "SegmentIdentificationSequence" in groups else shared
        number = int(of_one.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        found[labels[number]][str(source)] = frame
    return found


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Twice what both have over what each has; 1 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 1.0 if total == 0 else 2.0 * int((one & other).sum()) / total


def stacked(of_segment: dict[str, NDArray[np.bool_]], sources: Sequence[str], like: NDArray[Any]) -> NDArray[np.bool_]:
    """The masks of a segment in the order of `sources`; absent frames are empty."""
    empty = np.zeros(like.shape[-2:], bool)
    return np.stack([of_segment.get(uid, empty) for uid in sources])


def jobs_by_pipeline(jobs: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of one study."""
    return {job["pipeline"]: job for job in jobs}

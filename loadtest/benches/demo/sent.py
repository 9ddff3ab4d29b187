"""What the demonstration sends: two made-up chests whose anatomy is known, and a folder of somebody's own."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadtest.benches.generated import chest_spec
from loadtest.studies import Instance, Study, StudyTemplate
from models.phantom import SEGMENTS, make_phantom, write_dicom

Door = Literal["C-STORE", "STOW-RS"]

TRUTH_OF_SEGMENT = {
    "Left lung": ("Left lung",),
    "Right lung": ("Right lung",),
    "Bone": ("Bone",),
    "Body": SEGMENTS,
    "Adipose tissue": ("Fat",),
    "Soft tissue": ("Soft tissue",),
}
"""Segment of a result -> segments of the phantom that it should cover."""


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A series, its door, and its truth: uint8[images, rows, columns] in the order of instances.

    name: for tables and file names; says nothing of a patient.
    """

    name: str
    door: Door
    study: Study
    truth: NDArray[np.uint8] | None = None

    def true_mask(self, segment: str) -> NDArray[np.bool_] | None:
        """bool[images, rows, columns]; None where the truth says nothing about this segment."""
        if self.truth is None or segment not in TRUTH_OF_SEGMENT:
            return None
        labels = [SEGMENTS.index(name) + 1 for name in TRUTH_OF_SEGMENT[segment]]
        return np.isin(self.truth, labels)


def phantom(seed: int, slices: int, door: Door, folder: Path, *, salt: str, size: int = 512) -> Sent:
    """A made-up patient under UIDs of this run's own."""
    made = make_phantom(chest_spec(seed, slices, size=size))
    write_dicom(made, folder, salt=salt)
    return Sent(f"phantom-{seed}", door, StudyTemplate.read(folder).study, made.truth.labels)


def own_series(folder: Path) -> tuple[list[Sent], int]:
    """Every series in a folder and below, to be sent by C-STORE; and how many files are no DICOM with UIDs.

    The files are sent as they are.
    """
    found: dict[tuple[str, str], list[Instance]] = {}
    left_out = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        read = _instance(path)
        if read is None:
            left_out += 1
        else:
            found.setdefault(read[0], []).append(read[1])
    series = [
        Sent(f"yours-{number}", "C-STORE", Study(study, uid, tuple(instances)))
        for number, ((study, uid), instances) in enumerate(sorted(found.items()), 1)
    ]
    return series, left_out


def salt_of(words: Iterable[object]) -> str:
    """A short salt out of what makes this run one of its own."""
    return hashlib.sha256(repr(list(words)).encode()).hexdigest()[:16]


def _instance(path: Path) -> tuple[tuple[str, str], Instance] | None:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return None
    study, series = str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", ""))
    sop_class, sop = str(header.get("SOPClassUID", "")), str(header.get("SOPInstanceUID", ""))
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    if not all((study, series, sop_class, sop, syntax)):
        return None
    return (study, series), Instance(path.read_bytes(), sop_class, sop, syntax)

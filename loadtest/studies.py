"""Studies to send: one series read once as a template, given out again under new UIDs by exchanging bytes.

A UID is replaced by another of equal length: no length field changes, nothing is parsed or encoded again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

_HEADER_BYTES = 1 << 16
"""UIDs are looked for here only: pixels lie behind the header, and no header that we send is longer."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM file (Part 10) and what an association must know of it."""

    data: bytes
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Study:
    """One series of one study, ready to send."""

    study_instance_uid: str
    series_instance_uid: str
    instances: tuple[Instance, ...]

    def write(self, folder: Path) -> list[Path]:
        """Write the files as 0001.dcm and on; `folder` is made if absent."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{n:04d}.dcm" for n in range(1, len(self.instances) + 1)]
        for path, instance in zip(paths, self.instances, strict=True):
            path.write_bytes(instance.data)
        return paths


@dataclass(frozen=True, slots=True)
class StudyTemplate:
    """A series as it lies on disk, in the order of its file names."""

    study: Study

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read all files of one series in `folder`. Raises: ValueError if there is not exactly one series."""
        from pydicom import dcmread

        instances, of = [], set()
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            data = path.read_bytes()
            header = dcmread(BytesIO(data), stop_before_pixels=True)
            of.add((str(header.StudyInstanceUID), str(header.SeriesInstanceUID)))
            syntax = str(header.file_meta.TransferSyntaxUID)
            instances.append(Instance(data, str(header.SOPClassUID), str(header.SOPInstanceUID), syntax))
        if len(of) != 1:
            raise ValueError(f"{folder} holds {len(of)} series; one is needed")
        ((study, series),) = of
        return cls(Study(study, series, tuple(instances)))

    def copy(self, salt: str, *, first: int = 0, count: int | None = None) -> Study:
        """The same pixels as another study: every UID of study, series and instances follows from `salt`.

        first, count: only these instances.
        """
        template = self.study
        study = other_uid(template.study_instance_uid, salt)
        series = other_uid(template.series_instance_uid, salt)
        shared = [(template.study_instance_uid, study), (template.series_instance_uid, series)]
        stop = None if count is None else first + count
        return Study(study, series, tuple(_renamed(i, shared, salt) for i in template.instances[first:stop]))


def other_uid(uid: str, salt: str) -> str:
    """Another UID of equal length, by hashing: under 2.25 (PS3.5 B.2), or under 1.2.826.0.1 if it is long.

    Raises: ValueError for one of under 12 characters, which leaves too little room to differ.
    """
    root = "2.25." if len(uid) <= 43 else "1.2.826.0.1."
    room = len(uid) - len(root)
    if room < 7:
        raise ValueError("a UID this short cannot be exchanged for another of equal length")
    number = int.from_bytes(hashlib.sha512(f"{salt} {uid}".encode()).digest())
    return root + str(10 ** (room - 1) + number % (9 * 10 ** (room - 1)))


def _renamed(instance: Instance, shared: Sequence[tuple[str, str]], salt: str) -> Instance:
    uid = other_uid(instance.sop_instance_uid, salt)
    head = instance.data[:_HEADER_BYTES]
    for old, new in (*shared, (instance.sop_instance_uid, uid)):
        head = head.replace(old.encode(), new.encode())
    data = head + instance.data[_HEADER_BYTES:]
    return Instance(data, instance.sop_class_uid, uid, instance.transfer_syntax_uid)

"""Read a DICOM SEG as a viewer does: which pixels of which source image belong to which segment.

pydicom only, none of the code that wrote it: what comes out is what any reader would find.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationMasks:
    """segments: labels by their number. masks: bool[rows, columns] by (segment, SOP Instance UID).

    A source image without a frame of a segment has nothing of it.
    """

    segments: tuple[str, ...]
    masks: Mapping[tuple[str, str], NDArray[np.bool_]]

    def stacked(self, segment: str, images: list[str], shape: tuple[int, int]) -> NDArray[np.bool_]:
        """bool[images, rows, columns] of one segment; images: SOP Instance UIDs of the source, in order."""
        empty = np.zeros(shape, dtype=np.bool_)
        return np.stack([self.masks.get((segment, uid), empty) for uid in images])


def read_segmentation(data: bytes) -> SegmentationMasks:
    """The masks in a BINARY SEG file (PS3.3 A.51). Raises: ValueError for another kind of object."""
    from pydicom import dcmread

    ds = dcmread(BytesIO(data))
    if str(ds.get("SegmentationType", "")) != "BINARY":
        raise ValueError("not a BINARY segmentation")
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in ds.SegmentSequence}
    bits = np.unpackbits(np.frombuffer(ds.PixelData, dtype=np.uint8), bitorder="little")
    rows, columns = int(ds.Rows), int(ds.Columns)
    frames = bits[: int(ds.NumberOfFrames) * rows * columns].reshape(-1, rows, columns).astype(np.bool_)
    masks: dict[tuple[str, str], NDArray[np.bool_]] = {}
    shared = ds.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        of_one = groups if "SegmentIdentificationSequence" in groups else shared  # one segment: shared
        number = int(of_one.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if derivation := groups.get("DerivationImageSequence"):
            source = derivation[0].SourceImageSequence[0]
            masks[names[number], str(source.ReferencedSOPInstanceUID)] = frame
    return SegmentationMasks(tuple(names[number] for number in sorted(names)), masks)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Twice the overlap over the sum of both; 1 if both are empty."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else 1.0

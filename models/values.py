"""The typed values that flow between operators. Every one is immutable and knows its geometry.

Axis order is always (slices, rows, columns). An affine maps the homogeneous index
(slice, row, column, 1) to the LPS position in mm of the voxel's centre (DICOM PS3.3 C.7.6.2.1.1,
with the index order of our arrays).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

HU = "[hnsf'U]"
"""Hounsfield unit, as UCUM writes it."""
ONE = "1"
"""No unit, as UCUM writes it."""

Affine: TypeAlias = NDArray[np.float64]
"""float64[4, 4]: (slice, row, column, 1) -> (x, y, z, 1) in LPS mm."""


class Kind(StrEnum):
    """What sort of value travels along an edge of the graph."""

    SERIES = "series"
    IMAGES = "images"
    VOLUME = "volume"
    LABEL_MAP = "label_map"
    PROBABILITY_MAP = "probability_map"
    MEASUREMENTS = "measurements"
    SEGMENTATION = "segmentation"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueType:
    """What the planner knows of a value before it exists.

    `unit` is UCUM and only meaningful for volumes; `on_source_grid` says that voxels coincide with the
    pixels of the source images, which a DICOM result must; `segments` are the names of labels 1, 2, ...
    (empty: not known before the kernel has run).
    """

    kind: Kind
    unit: str = ""
    on_source_grid: bool = False
    segments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}[{self.unit}]" if self.unit else str(self.kind)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """One stored DICOM image: where its bytes are and what they are. `path` never contains patient data."""

    path: str
    digest: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Series:
    """The images of one DICOM series, in ascending order of SOP Instance UID; pixels not yet read.

    offset: how many images of the series come before these, where this is a part of it.
    """

    images: tuple[ImageReference, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        uids = [image.sop_instance_uid for image in self.images]
        if uids != sorted(uids):
            raise ValueError("the images of a Series must be in ascending order of SOP Instance UID")


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """One image in real-world values: float32[rows, columns] and where it lies (DICOM PS3.3 C.7.6.2)."""

    image_index: int
    """Index into the whole Series' images (not into a part of them)."""
    pixels: NDArray[np.float32]
    unit: str
    image_position_patient: tuple[float, float, float]
    """LPS mm of the first pixel's centre."""
    image_orientation_patient: tuple[float, float, float, float, float, float]
    """Direction cosines: along a row (towards higher columns), then along a column (towards higher rows)."""
    pixel_spacing: tuple[float, float]
    """mm between rows, mm between columns."""
    frame_of_reference_uid: str


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Decoded images of a series or of a part of one, in the order of the Series."""

    images: tuple[DecodedImage, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SourcePlanes:
    """Where the source images lie, in stacking order: the grid that results must be written on."""

    image_index: tuple[int, ...]
    """For each plane, the index of its image in the Series."""
    positions_mm: NDArray[np.float64]
    """float64[planes, 3], LPS mm of each plane's first pixel."""
    image_orientation_patient: tuple[float, float, float, float, float, float]
    pixel_spacing: tuple[float, float]
    rows: int
    columns: int


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A scalar field on a regular grid.

    voxels: float32[slices, rows, columns] in `unit`; affine: see the module's docstring.
    source: the planes of the source images, present only on what `stack` gives.
    notes: sentences for the job record (no patient data).
    """

    voxels: NDArray[np.float32]
    affine: Affine
    unit: str
    source: SourcePlanes | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance in mm between neighbours along (slices, rows, columns)."""
        return spacing_mm(self.affine)


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Disjoint segments on a regular grid: 0 is background, n is the n-th name.

    labels: uint8[slices, rows, columns]; segments: names of labels 1, 2, ...
    """

    labels: NDArray[np.uint8]
    affine: Affine
    segments: tuple[str, ...]
    source: SourcePlanes | None = None
    notes: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance in mm between neighbours along (slices, rows, columns)."""
        return spacing_mm(self.affine)


@dataclass(frozen=True, slots=True, eq=False)
class ProbabilityMap:
    """Class probabilities (or logits) on a regular grid.

    values: float32[classes, slices, rows, columns]; with one class, the probability of segment 1;
    with more, class 0 is background. segments: names of classes other than background.
    source: the planes of the source images, where the values lie on them.
    """

    values: NDArray[np.float32]
    affine: Affine
    segments: tuple[str, ...]
    notes: tuple[str, ...] = ()
    source: SourcePlanes | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number about one segment; `unit` is UCUM, `value` is None where there is nothing to measure."""

    segment: str
    quantity: str
    value: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured, in the order of segments and quantities."""

    items: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A DICOM SEG object as bytes (a whole Part 10 file), and what it is called."""

    data: bytes
    sop_instance_uid: str
    series_instance_uid: str
    notes: tuple[str, ...] = field(default=())


Value: TypeAlias = Series | Images | Volume | LabelMap | ProbabilityMap | Measurements | Segmentation


def spacing_mm(affine: Affine) -> tuple[float, float, float]:
    """Distance in mm between neighbours along (slices, rows, columns) of a grid with this affine."""
    slices, rows, columns = np.linalg.norm(affine[:3, :3], axis=0)
    return float(slices), float(rows), float(columns)


def voxel_volume_mm3(affine: Affine) -> float:
    """Volume in mm3 of one voxel of a grid with this affine."""
    return float(abs(np.linalg.det(affine[:3, :3])))

"""What a phantom is asked to be, and what comes back."""

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.values import Affine, LabelMap, Volume

Kernel: TypeAlias = Literal["smooth", "standard", "sharp"]

CENTRE_MM = (0.0, 8.0, 0.0)
"""LPS mm of the middle of every phantom's grid: the middle of the chest, and a little back for the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSpec:
    """A patient (`seed`, `emphysema`) and how they are scanned (all else).

    Equal `seed` and `emphysema` are the same patient in any scan: the anatomy does not depend on the grid,
    the noise, the kernel or the slice thickness. The chest is about 260 mm tall; the default grid reaches
    from above the lung apices to the upper abdomen.
    """

    seed: int
    slices: int = 160
    rows: int = 512
    columns: int = 512
    spacing_mm: tuple[float, float, float] = (2.0, 0.7, 0.7)
    """Between (slices, rows, columns)."""
    slice_thickness_mm: float | None = None
    """What one slice averages over; None: the distance between slices."""
    kernel: Kernel = "standard"
    """Reconstruction kernel: shapes edges and noise texture alike."""
    noise_hu: float = 15.0
    """Standard deviation in the middle of a mid-chest slice, after the kernel (the dose)."""
    emphysema: float = 0.04
    """Share of the lungs to be destroyed (attenuation below -950 HU), roughly; 0 for none."""
    table: bool = True

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError("seed must not be negative")
        if min(self.slices, self.rows, self.columns) < 1 or max(self.rows, self.columns) > 65535:
            raise ValueError("slices, rows and columns must be at least 1, rows and columns at most 65535")
        if min(self.spacing_mm) <= 0 or self.thickness_mm <= 0:
            raise ValueError("spacing_mm and slice_thickness_mm must be above 0")
        if self.kernel not in ("smooth", "standard", "sharp"):
            raise ValueError("kernel must be smooth, standard or sharp")
        if self.noise_hu < 0 or not 0 <= self.emphysema <= 0.5:
            raise ValueError("noise_hu must not be negative, emphysema must be within 0 to 0.5")

    @property
    def thickness_mm(self) -> float:
        """What one slice averages over, in mm."""
        return self.spacing_mm[0] if self.slice_thickness_mm is None else self.slice_thickness_mm

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return self.slices, self.rows, self.columns

    def axis_mm(self, axis: int) -> NDArray[np.float64]:
        """float64[n], LPS mm of the voxel centres along slices (0: z), rows (1: y) or columns (2: x)."""
        steps = np.arange(self.shape[axis]) - (self.shape[axis] - 1) / 2
        return np.asarray(CENTRE_MM[2 - axis] + steps * self.spacing_mm[axis], dtype=np.float64)

    def affine(self) -> Affine:
        """float64[4, 4]: (slice, row, column, 1) to LPS mm; axial, head first supine, slices going up."""
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2] = self.spacing_mm
        affine[:3, 3] = [self.axis_mm(axis)[0] for axis in (2, 1, 0)]
        affine[3, 3] = 1
        return affine

    def as_json(self) -> dict[str, object]:
        """Every field by name, as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A scanned patient and the truth about them.

    volume: HU, whole numbers (as CT stores them). truth: labels as in `materials.SEGMENTS`, on the same
    grid, free of noise; all segments together are the body, the table is background.
    """

    spec: PhantomSpec
    volume: Volume
    truth: LabelMap

"""The input contract: which series a pipeline is meant for, judged on header facts alone.

Kept apart from the pipeline language because serving checks contracts without reading pipelines.
"""

from dataclasses import dataclass

from models.messages import code_in_message


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What headers tell of a series before any pixel is read. None: not known, so not judged."""

    modality: str
    images: int
    rows: int | None = None
    columns: int | None = None
    slice_spacing_mm: float | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    """mm between rows, mm between columns."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One clause of a contract that a series does not meet; `reason` as in InputRefused."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Limits, all inclusive; None: no limit. The `input` of a pipeline file."""

    modality: str = "CT"
    min_slices: int = 1
    max_slices: int = 2000
    """2000 slices of 512 x 512 are 2 GB of float32: more than any routine CT series."""
    min_rows: int = 1
    max_rows: int = 4096
    min_columns: int = 1
    max_columns: int = 4096
    min_slice_spacing_mm: float | None = None
    max_slice_spacing_mm: float | None = None
    min_pixel_spacing_mm: float | None = None
    max_pixel_spacing_mm: float | None = None

    def __post_init__(self) -> None:
        for low, high in _RANGES:
            smallest, largest = getattr(self, low), getattr(self, high)
            if smallest is not None and smallest <= 0:
                raise ValueError(f"{low} must be above 0")
            if smallest is not None and largest is not None and largest < smallest:
                raise ValueError(f"{high} is below {low}")

    def violations(self, facts: SeriesFacts) -> tuple[Violation, ...]:
        """Every clause that `facts` break, the modality first."""
        if facts.modality != self.modality:
            reason = "not-ct" if self.modality == "CT" else "outside-contract"
            modality = code_in_message(facts.modality)
            return (Violation(reason, f"Modality (0008,0060) is {modality}; must be {self.modality}"),)
        rows_mm, columns_mm = facts.pixel_spacing_mm or (None, None)
        judged: tuple[tuple[str, float | None, float | None, float | None], ...] = (
            ("the number of images", facts.images, self.min_slices, self.max_slices),
            ("Rows (0028,0010)", facts.rows, self.min_rows, self.max_rows),
            ("Columns (0028,0011)", facts.columns, self.min_columns, self.max_columns),
            (
                "the distance between slices in mm",
                facts.slice_spacing_mm,
                self.min_slice_spacing_mm,
                self.max_slice_spacing_mm,
            ),
            (
                "Pixel Spacing (0028,0030) in mm",
                rows_mm,
                self.min_pixel_spacing_mm,
                self.max_pixel_spacing_mm,
            ),
            (
                "Pixel Spacing (0028,0030) in mm",
                columns_mm,
                self.min_pixel_spacing_mm,
                self.max_pixel_spacing_mm,
            ),
        )
        found = (_outside(*clause) for clause in judged)
        return tuple(dict.fromkeys(Violation("outside-contract", text) for text in found if text))


_RANGES = (
    ("min_slices", "max_slices"),
    ("min_rows", "max_rows"),
    ("min_columns", "max_columns"),
    ("min_slice_spacing_mm", "max_slice_spacing_mm"),
    ("min_pixel_spacing_mm", "max_pixel_spacing_mm"),
)
_CLOSE = 1e-6
"""Spacings are decimal strings: 5.0 may arrive as 4.9999999."""


def _outside(what: str, value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    if low is not None and value < low - _CLOSE:
        return f"{what} is {value:g}; must be at least {low:g}"
    if high is not None and value > high + _CLOSE:
        return f"{what} is {value:g}; must be at most {high:g}"
    return ""

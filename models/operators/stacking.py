"""Stack decoded images into a volume, or say by name why they form none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from models.dicom_header import (
    COLUMNS,
    FRAME_OF_REFERENCE_UID,
    IMAGE_ORIENTATION_PATIENT,
    IMAGE_POSITION_PATIENT,
    PIXEL_SPACING,
    ROWS,
)
from models.errors import InputRefused, KernelError, PipelineError
from models.geometry import in_plane, normal_of, source_affine
from models.operators.base import KernelContext, Operator
from models.operators.regrid import resampled
from models.values import DecodedImage, Images, Kind, SourcePlanes, Value, ValueType, Volume

COSINE_TOLERANCE = 1e-3
"""Direction cosines of one series may differ so much: 0.5 mm at the far edge of 500 mm."""
SPACING_TOLERANCE = 1e-3
"""Pixel spacings may differ by this share."""
SAME_PLACE_MM = 0.01
"""Images closer than this along the normal are at one position; the thinnest CT slices are 0.2 mm apart."""
GAP_TOLERANCE = 0.1
"""A plane may be off its place in the regular grid by this share of the slice spacing."""
TILT_TOLERANCE_DEGREES = 0.25
"""The line through the positions may lean so far from the normal: 1.3 mm over 300 mm, kept in the affine.
A guess; real gantry tilts are whole degrees."""
WOBBLE_TOLERANCE_PIXELS = 0.5
"""A plane may lie beside that line by so many pixels."""

Handling = Literal["refuse", "resample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack(Operator):
    """Images (all parts of a series) -> Volume, slices ascending along the normal, with its `source` planes.

    Refused by name: too-few-images, size-mixed, spacing-mixed, orientation-mixed, duplicate-position,
    gantry-tilt, missing-slice, irregular-spacing. An image that repeats another one's position and pixels
    is left out with a note.

    gantry_tilt, irregular_spacing: "resample" gives a regular, right-angled grid by linear interpolation
    instead; its slices are the median spacing apart, and voxels that no image covers have the smallest value.
    """

    name: ClassVar[str] = "stack"
    gantry_tilt: Handling = "refuse"
    irregular_spacing: Handling = "refuse"

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        if not inputs or any(given.kind is not Kind.IMAGES for given in inputs):
            raise PipelineError("takes images", key="of")
        if len({given.unit for given in inputs}) > 1:
            raise PipelineError("takes images of one unit", key="of")
        regular = self.gantry_tilt == "refuse" and self.irregular_spacing == "refuse"
        return ValueType(kind=Kind.VOLUME, unit=inputs[0].unit, on_source_grid=regular)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        images, notes = _gathered(inputs)
        _check_alike(images)
        images, more = _in_order(images)
        planes = _planes(images)
        tilted = self._check_tilt(planes)
        irregular = self._check_spacing(planes)
        notes = (*notes, *more, *_frame_of_reference_notes(images))
        pixels = [image.pixels for image in images]
        if tilted or irregular:
            voxels, affine = resampled(pixels, planes)
            notes = (*notes, _RESAMPLED.format(" and ".join(filter(None, [tilted, irregular]))))
        else:
            voxels, affine = np.stack(pixels), source_affine(planes)
        return Volume(voxels=voxels, affine=affine, unit=images[0].unit, source=planes, notes=notes)

    def _check_tilt(self, planes: SourcePlanes) -> str:
        """What to tell of a tilt that is to be resampled; empty if there is none."""
        degrees = _tilt_degrees(planes)
        if degrees <= TILT_TOLERANCE_DEGREES:
            return ""
        if self.gantry_tilt == "refuse":
            raise InputRefused(
                "gantry-tilt",
                f"the slices are sheared by {degrees:.1f} degrees, by {IMAGE_POSITION_PATIENT}; "
                f"at most {TILT_TOLERANCE_DEGREES:g} are accepted",
            )
        return f"a gantry tilt of {degrees:.1f} degrees"

    def _check_spacing(self, planes: SourcePlanes) -> str:
        """What to tell of irregular spacing that is to be resampled; empty if it is regular."""
        gaps = np.diff(planes.positions_mm @ normal_of(planes.image_orientation_patient))
        usual = float(np.median(gaps))
        missing = np.rint(gaps / usual)
        multiple = (missing >= 2) & (np.abs(gaps / usual - missing) <= GAP_TOLERANCE)
        if multiple.any() and (np.abs(gaps / usual - missing) <= GAP_TOLERANCE).all() and _few(multiple):
            raise InputRefused(
                "missing-slice",
                f"slices are missing ({int((missing - 1).sum())}): a gap of {gaps.max():.3g} mm where others "
                f"are {usual:.3g} mm, by {IMAGE_POSITION_PATIENT}",
            )
        if _is_regular(planes):
            return ""
        if self.irregular_spacing == "refuse":
            raise InputRefused(
                "irregular-spacing",
                f"the distances between slices are {gaps.min():.3g} to {gaps.max():.3g} mm, by "
                f"{IMAGE_POSITION_PATIENT}; they may differ by {GAP_TOLERANCE:.0%}",
            )
        return f"distances between slices of {gaps.min():.3g} to {gaps.max():.3g} mm"


_RESAMPLED = "The images were resampled to a regular grid because of {}."


def _gathered(inputs: Sequence[Value]) -> tuple[list[DecodedImage], tuple[str, ...]]:
    images: list[DecodedImage] = []
    notes: dict[str, None] = {}
    for part in inputs:
        if not isinstance(part, Images):
            raise KernelError(f"got a {type(part).__name__} where Images belong")
        images += part.images
        notes.update(dict.fromkeys(part.notes))
    if len(images) < 2:
        raise InputRefused("too-few-images", f"the series has {len(images)} image; a volume needs at least 2")
    return images, tuple(notes)


def _check_alike(images: Sequence[DecodedImage]) -> None:
    """One size, one spacing, one orientation."""
    first = images[0]
    sizes = {image.pixels.shape for image in images}
    if len(sizes) > 1:
        listed = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes))
        raise InputRefused("size-mixed", f"{ROWS} x {COLUMNS} are {listed} in one series")
    cosines = np.array([image.image_orientation_patient for image in images])
    other = (np.abs(cosines - np.array(first.image_orientation_patient)) > COSINE_TOLERANCE).any(axis=1)
    if other.any():
        raise InputRefused(
            "orientation-mixed",
            f"{IMAGE_ORIENTATION_PATIENT} is another in {int(other.sum())} of {len(images)} images",
        )
    spacings = np.array([image.pixel_spacing for image in images])
    if (np.abs(spacings / spacings[0] - 1) > SPACING_TOLERANCE).any():
        low, high = spacings.min(), spacings.max()
        raise InputRefused("spacing-mixed", f"{PIXEL_SPACING} is {low:.6g} to {high:.6g} mm in one series")


def _in_order(images: list[DecodedImage]) -> tuple[list[DecodedImage], tuple[str, ...]]:
    """Ascending along the normal, without images that repeat another one, and a note if there were such."""
    normal = normal_of(images[0].image_orientation_patient)
    places = np.array([image.image_position_patient for image in images]) @ normal
    order = sorted(range(len(images)), key=lambda index: (places[index], images[index].image_index))
    kept = [order[0]]
    for index in order[1:]:
        if places[index] - places[kept[-1]] >= SAME_PLACE_MM:
            kept.append(index)
        elif not _repeats(images[index], images[kept[-1]]):
            raise InputRefused(
                "duplicate-position",
                f"two different images lie at {places[index]:.3f} mm along the slice normal, by "
                f"{IMAGE_POSITION_PATIENT}: the series holds more than one volume",
            )
    if len(kept) < 2:
        raise InputRefused("too-few-images", f"the {len(images)} images of the series are one and the same")
    left_out = len(images) - len(kept)
    note = f"Images that repeat another one's position and pixels were left out: {left_out}."
    return [images[index] for index in kept], (note,) if left_out else ()


def _repeats(one: DecodedImage, other: DecodedImage) -> bool:
    apart = np.subtract(one.image_position_patient, other.image_position_patient)
    return float(np.abs(apart).max()) < SAME_PLACE_MM and bool(np.array_equal(one.pixels, other.pixels))


def _planes(images: Sequence[DecodedImage]) -> SourcePlanes:
    first = images[0]
    rows, columns = first.pixels.shape
    return SourcePlanes(
        image_index=tuple(image.image_index for image in images),
        positions_mm=np.array([image.image_position_patient for image in images], np.float64),
        image_orientation_patient=first.image_orientation_patient,
        pixel_spacing=first.pixel_spacing,
        rows=rows,
        columns=columns,
    )


def _tilt_degrees(planes: SourcePlanes) -> float:
    """Angle between the slice normal and the line from the first position to the last."""
    normal = normal_of(planes.image_orientation_patient)
    line = planes.positions_mm[-1] - planes.positions_mm[0]
    along = float(line @ normal)
    return float(np.degrees(np.arctan2(np.linalg.norm(line - along * normal), along)))


def _is_regular(planes: SourcePlanes) -> bool:
    """Whether every plane is where the regular grid between the first and the last has it."""
    positions = planes.positions_mm
    normal = normal_of(planes.image_orientation_patient)
    share = np.linspace(0, 1, len(positions))[:, None]
    off = positions - (positions[0] + share * (positions[-1] - positions[0]))
    spacing = float((positions[-1] - positions[0]) @ normal) / (len(positions) - 1)
    along = np.abs(off @ normal).max()
    beside = np.abs(off @ in_plane(planes.image_orientation_patient, (1, 1)) / planes.pixel_spacing).max()
    return bool(along <= GAP_TOLERANCE * spacing and beside <= WOBBLE_TOLERANCE_PIXELS)


def _few(which: NDArray[np.bool_]) -> bool:
    return bool(which.sum() <= len(which) / 3)


def _frame_of_reference_notes(images: Sequence[DecodedImage]) -> tuple[str, ...]:
    different = len({image.frame_of_reference_uid for image in images})
    if different == 1:
        return ()
    return (
        f"The images have {different} different values of {FRAME_OF_REFERENCE_UID} over one grid; "
        "the result has that of the first slice.",
    )

"""When a series is complete. Pure: what happened to it comes in with its time, a reason comes out.

A series is complete when its senders have closed, a short quiet time has passed and the positions of its
images show no gap; with a gap, or while a sender stays connected, only after a longer time without an image.
Even spacing is evidence, not proof: a series cut at one end looks whole (DESIGN.md, early work).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from serving.config import Completeness

NEAR_MULTIPLE = 0.15
"""A distance so near to 2, 3 ... times the usual one means missing slices; other uneven spacing was made so.
A guess between jitter of positions (a few per cent) and real changes of spacing (4 to 7 mm: 1.75)."""

FARTHEST_MM = 1e6
"""From the origin of the patient's coordinates: 1 km. A guess; nothing is ever imaged at a tenth of it."""

Plane: TypeAlias = tuple[tuple[float, ...], float]
"""Image Orientation (Patient), and the place along the slice normal in mm."""


@dataclass(slots=True)
class SeriesWatch:
    """What is known of one series while it is being received. Times are of one monotonic clock, in s."""

    settings: Completeness
    last_image_s: float
    open_associations: set[str] = field(default_factory=set)
    closed_s: float | None = None
    """When the last sender closed; None while one is open."""
    planes: dict[str, Plane] = field(default_factory=dict)
    """SOP Instance UID -> where the image lies, where its header tells it."""

    def image_arrived(
        self, sop_instance_uid: str, attributes: Mapping[str, str], association: str, now_s: float
    ) -> None:
        """Another image of the series came by this association."""
        self.last_image_s = now_s
        self.open_associations.add(association)
        self.closed_s = None
        plane = plane_of(attributes)
        if plane is not None:
            self.planes[sop_instance_uid] = plane

    def association_closed(self, association: str, now_s: float) -> None:
        """A sender is done. Others may still be sending."""
        self.open_associations.discard(association)
        if not self.open_associations and self.closed_s is None:
            self.closed_s = now_s

    def complete(self, now_s: float) -> str | None:
        """Why the series is complete now, as one word; None if it is not."""
        if now_s - self.last_image_s >= self.settings.timeout_s:
            return "timeout"
        quiet = self.closed_s is not None and now_s - self.closed_s >= self.settings.quiet_s
        if quiet and not has_gap(self.planes.values()):
            return "sender-closed"
        return None


def has_gap(planes: Iterable[Plane]) -> bool:
    """Whether a slice seems to be missing between others of the same orientation."""
    stacks: dict[tuple[float, ...], set[float]] = {}
    for orientation, place_mm in planes:
        stacks.setdefault(orientation, set()).add(place_mm)
    return any(_misses_a_slice(places_mm) for places_mm in stacks.values())


def _misses_a_slice(places_mm: Iterable[float]) -> bool:
    distances = sorted(high - low for low, high in pairwise(sorted(places_mm)))
    if len(distances) < 2:
        return False
    usual = distances[(len(distances) - 1) // 2]
    multiples = [distance / usual for distance in distances]
    return any(round(m) > 1 and abs(m - round(m)) < NEAR_MULTIPLE for m in multiples)


def plane_of(attributes: Mapping[str, str]) -> Plane | None:
    """Where an image lies; None if its header does not say (PS3.3 C.7.6.2). Rounded: headers jitter.

    Nor if it says what can be no place: not a number, or too far away.
    """
    try:
        x, y, z = (float(part) for part in attributes["ImagePositionPatient"].split("\\"))
        a, b, c, d, e, f = (float(part) for part in attributes["ImageOrientationPatient"].split("\\"))
    except (KeyError, ValueError):
        return None
    place_mm = x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)
    if not abs(place_mm) < FARTHEST_MM:  # nan too, which any inf or nan above leads to
        return None
    return tuple(round(part, 2) for part in (a, b, c, d, e, f)), round(place_mm, 3)

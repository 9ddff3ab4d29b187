"""When a series is complete. Pure: what happened to it comes in with its time, a reason comes out.

A series is complete when its senders have closed, a short quiet time has passed and the positions of its
images show no gap; with a gap, or while a sender stays connected, only after a longer time without an image.
Even spacing is evidence, not proof: a series cut at one end looks whole (DESIGN.md, early work).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from serving.config import Completeness

GAP_FACTOR = 1.5
"""A distance between neighbours above this many times the usual one is a gap: one missing slice makes 2."""


@dataclass(slots=True)
class SeriesWatch:
    """What is known of one series while it is being received. Times are of one monotonic clock, in s."""

    settings: Completeness
    last_image_s: float
    open_associations: set[str] = field(default_factory=set)
    closed_s: float | None = None
    """When the last sender closed; None while one is open."""
    places_mm: dict[str, float] = field(default_factory=dict)
    """SOP Instance UID -> place along the slice normal, where the header tells it."""

    def image_arrived(
        self, sop_instance_uid: str, attributes: Mapping[str, str], association: str, now_s: float
    ) -> None:
        """Another image of the series came by this association."""
        self.last_image_s = now_s
        self.open_associations.add(association)
        self.closed_s = None
        place = place_mm(attributes)
        if place is not None:
            self.places_mm[sop_instance_uid] = place

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
        if quiet and not has_gap(self.places_mm.values()):
            return "sender-closed"
        return None


def has_gap(places_mm: Iterable[float]) -> bool:
    """Whether some neighbours lie clearly farther apart than most do."""
    places = sorted(set(places_mm))
    gaps = sorted(high - low for low, high in pairwise(places))
    if len(gaps) < 2:
        return False
    return gaps[-1] > GAP_FACTOR * gaps[len(gaps) // 2]


def place_mm(attributes: Mapping[str, str]) -> float | None:
    """Where an image lies along its slice normal, in mm; None if its header does not say (PS3.3 C.7.6.2)."""
    try:
        x, y, z = (float(part) for part in attributes["ImagePositionPatient"].split("\\"))
        a, b, c, d, e, f = (float(part) for part in attributes["ImageOrientationPatient"].split("\\"))
    except (KeyError, ValueError):
        return None
    return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)

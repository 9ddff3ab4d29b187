"""The patient: how one seed's chest differs from the next, and how the trunk changes from hip to head.

All lengths are mm in the template, a patient of average size: x to the left, y to the back, z up, the origin
in the middle of the chest. `scale` stretches the template to the patient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.phantom.canvas import Ellipse

Profile = Callable[[float], float]
"""A length in mm as a function of z in mm."""

LUNG_FLOOR_MM = -130.0
LUNG_CEILING_MM = 138.0
CAVITY_BOXY = 0.5
VERTEBRA_MM = 24.0
"""Height of a vertebra with its disc."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What differs between seeds; every number is drawn once and rounded."""

    scale: tuple[float, float, float]
    """Of (slices, rows, columns): z, y, x."""
    fat_mm: float
    """Extra subcutaneous fat."""
    muscle: float
    """Factor on the thickness of muscles."""
    heart: float
    """Factor on the size of the heart."""
    heart_turn_deg: float
    right_dome_mm: float
    left_dome_mm: float
    kyphosis_mm: float
    aorta_mm: float
    """Radius."""
    vertebra_phase_mm: float
    liver: float
    stomach_gas: float
    """0 (none) to 1 (half full)."""

    @classmethod
    def of(cls, seed: int) -> "Patient":
        """The patient with this seed."""
        draw = np.random.Generator(np.random.PCG64([seed, 1]))

        def between(low: float, high: float) -> float:
            return round(low + (high - low) * float(draw.random()), 4)

        size = between(0.95, 1.03)
        return cls(
            scale=(between(0.95, 1.05), size * between(0.97, 1.03), size * between(0.98, 1.02)),
            fat_mm=between(-4, 7),
            muscle=between(0.8, 1.2),
            heart=between(0.88, 1.1),
            heart_turn_deg=between(28, 46),
            right_dome_mm=between(-60, -42),
            left_dome_mm=between(-72, -56),
            kyphosis_mm=between(4, 14),
            aorta_mm=between(11, 14.5),
            vertebra_phase_mm=between(0, VERTEBRA_MM),
            liver=between(0.9, 1.08),
            stomach_gas=between(0, 1),
        )

    def body(self, z: float) -> Ellipse:
        """The skin."""
        side, front = _BODY_SIDE(z) + self.fat_mm, _BODY_FRONT(z) + 0.8 * self.fat_mm
        return Ellipse(0.0, 0.0, side, front, _BODY_BACK(z) + 0.3 * self.fat_mm, _BODY_BOXY(z))

    def wall(self, z: float) -> Ellipse:
        """The outside of the rib cage, or of the neck above it."""
        return Ellipse(0.0, _CAVITY_Y(z), _WALL_SIDE(z), _WALL_FRONT(z), _WALL_BACK(z), CAVITY_BOXY)

    def cavity(self, z: float) -> Ellipse:
        """The inside of the rib cage (of the abdominal wall, below it); of no extent above the lungs."""
        side, front, back = _CAVITY_SIDE(z), _CAVITY_FRONT(z), _CAVITY_BACK(z)
        return Ellipse(0.0, _CAVITY_Y(z), side, front, back, CAVITY_BOXY)

    def spine_y(self, z: float) -> float:
        """y of the middle of the vertebral bodies: the spine bows backwards in mid-chest."""
        bow = 1 - (z / 150) * (z / 150)
        return 55.0 + self.kyphosis_mm * max(bow, -0.4)

    def vertebra(self, z: float) -> float:
        """Where between two discs z lies: 0 at the lower disc, 1 at the upper one."""
        return ((z + self.vertebra_phase_mm) % VERTEBRA_MM) / VERTEBRA_MM


def profile(*knots: tuple[float, float]) -> Profile:
    """Straight lines between (z, mm), level beyond them."""
    z, mm = np.array(knots, dtype=np.float64).T
    return lambda at: float(np.interp(at, z, mm))


_BODY_SIDE = profile(
    (-160, 150), (-100, 153), (-40, 156), (20, 160), (70, 164), (110, 165), (135, 157), (155, 138),
    (175, 104), (195, 72),
)  # fmt: skip
_BODY_FRONT = profile(
    (-160, 114), (-100, 113), (-40, 109), (20, 103), (70, 94), (110, 80), (140, 66), (160, 56), (200, 52)
)
_BODY_BACK = profile((-160, 116), (-60, 118), (60, 119), (110, 116), (150, 104), (200, 92))
_BODY_BOXY = profile((-160, 0.45), (0, 0.45), (80, 0.25), (140, 0.1))
_CAVITY_SIDE = profile(
    (-160, 126), (-110, 129), (-60, 130), (0, 126), (50, 116), (85, 101), (105, 86), (118, 72), (127, 59),
    (133, 46), (136.5, 34), (LUNG_CEILING_MM, 24), (LUNG_CEILING_MM + 0.1, 0),
)  # fmt: skip
_CAVITY_FRONT = profile(
    (-160, 94), (-110, 94), (-60, 92), (0, 85), (50, 73), (85, 58), (105, 46), (120, 32), (130, 20), (138, 10)
)
_CAVITY_BACK = profile((-160, 84), (-60, 87), (20, 87), (70, 82), (105, 70), (120, 58), (130, 44), (138, 30))
_CAVITY_Y = profile((-160, 0), (20, 0), (70, 2), (105, 8), (138, 16))
_WALL_SIDE = profile(
    (-160, 133),
    (-110, 138),
    (-60, 140),
    (0, 136),
    (50, 126),
    (85, 112),
    (105, 98),
    (120, 84),
    (140, 68),
    (170, 58),
)
_WALL_FRONT = profile((-160, 101), (-60, 102), (0, 96), (50, 84), (85, 70), (105, 58), (120, 48), (140, 40))
_WALL_BACK = profile((-160, 96), (-60, 98), (20, 98), (70, 94), (105, 84), (120, 76), (140, 66))

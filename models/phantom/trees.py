"""What runs through the chest as tubes: airways, great vessels, and the seeded trees of lung vessels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.phantom.patient import Patient
from models.phantom.skeleton import smooth_path
from models.phantom.tubes import Tube

Points = NDArray[np.float64]
"""float64[points, 3]: (x, y, z), template mm."""

RIGHT_HILUM = (-44.0, 14.0, 10.0)
LEFT_HILUM = (46.0, 18.0, 14.0)

LEAF_MM = 0.55
"""Radius of the thinnest vessels; a vessel's radius cubed is the sum of its branches' (Murray's law)."""
VESSEL_SIZES_MM = (0.55, 0.8, 1.1, 1.5, 2.0, 2.6, 3.4, 4.4)
FINE_MM = 0.9
"""Vessels up to this radius are thinner than a pixel or two: drawn as part lung."""
HILAR_MM = 3.0
"""Vessels from this radius on belong to the hilum, not to the lung."""


def _tube(radius_mm: float, *knots: tuple[float, float, float]) -> Tube:
    return Tube(smooth_path(np.array(knots, dtype=np.float64), 6), radius_mm, radius_mm)


def airways() -> list[Tube]:
    """Lumens of the windpipe, the main and the lobar bronchi."""
    return [
        _tube(8.6, (0, 2, 240), (0, 2, 170), (0, 8, 130), (2, 14, 90), (3, 20, 48)),
        _tube(6.4, (3, 20, 50), (-14, 20, 34), (-32, 18, 20)),
        _tube(5.0, (-30, 18, 21), (-42, 20, 2), (-46, 24, -14)),
        _tube(3.8, (-26, 18, 26), (-42, 14, 32), (-60, 10, 42)),
        _tube(2.8, (-44, 20, -4), (-56, 2, -18), (-64, -14, -26)),
        _tube(3.6, (-46, 24, -12), (-56, 34, -30), (-62, 42, -48)),
        _tube(6.0, (3, 20, 50), (22, 22, 34), (44, 24, 18)),
        _tube(3.8, (42, 23, 19), (56, 14, 28), (66, 6, 40)),
        _tube(2.8, (46, 22, 17), (60, 4, 6), (68, -12, -2)),
        _tube(4.2, (43, 24, 19), (52, 34, 0), (58, 42, -24), (62, 46, -44)),
    ]


def great_vessels(patient: Patient) -> list[Tube]:
    """Aorta and its branches, caval veins, pulmonary trunk and arteries, vessels of neck and liver."""
    r = patient.aorta_mm
    spine = patient.spine_y
    return [
        _tube(r * 1.12, (-2, -8, -18), (-12, -20, 10), (-12, -20, 36), (-2, -6, 58)),
        _tube(r, (-2, -6, 58), (10, 10, 64), (22, 30, 58), (26, spine(40) - 14, 40)),
        _tube(
            r * 0.94,
            (26, spine(40) - 14, 42), (25, spine(0) - 15, 0), (22, spine(-50) - 17, -50),
            (14, spine(-100) - 24, -100), (6, spine(-150) - 26, -150), (4, spine(-220) - 26, -220),
        ),
        _tube(4.6, (-4, 0, 62), (-14, 0, 90), (-26, -2, 120), (-32, -8, 170), (-32, -8, 230)),
        _tube(3.4, (8, 6, 66), (16, 4, 95), (28, -2, 130), (32, -8, 170), (32, -8, 230)),
        _tube(4.2, (16, 18, 66), (24, 22, 95), (36, 16, 120), (60, 2, 126), (100, -6, 118)),
        _tube(4.2, (-22, -2, 108), (-40, 10, 122), (-64, 0, 126), (-100, -6, 118)),
        _tube(8.5, (-26, -14, 78), (-27, -14, 40), (-26, -12, -8)),
        _tube(6.5, (-26, -14, 78), (-2, -30, 80), (24, -26, 90), (42, -14, 122), (44, -14, 230)),
        _tube(6.5, (-26, -14, 76), (-36, -12, 104), (-44, -14, 130), (-44, -14, 230)),
        _tube(12.5, (16, -36, -8), (18, -34, 14), (17, -22, 28)),
        _tube(9.5, (17, -20, 26), (2, -4, 24), (-22, 0, 18), (-44, 8, 12)),
        _tube(9.5, (17, -22, 28), (30, -2, 30), (44, 14, 24)),
        _tube(6.0, (-10, 10, -8), (-34, 14, -6), (-46, 18, -10)),
        _tube(6.0, (12, 12, -6), (34, 14, -2), (46, 16, -6)),
        _tube(10.5, (-22, 2, -28), (-24, 10, -70), (-22, 18, -120), (-20, 26, -220)),
        _tube(4.0, (-24, 8, -72), (-48, -4, -84), (-78, -14, -96)),
        _tube(3.5, (-24, 8, -72), (-30, -24, -84), (-36, -50, -100)),
        _tube(3.5, (-24, 8, -74), (-54, 24, -92), (-84, 36, -108)),
        _tube(5.0, (-18, -12, -150), (-34, -10, -130), (-64, -8, -120)),
    ]  # fmt: skip


def oesophagus(patient: Patient) -> list[Tube]:
    """The gullet, between windpipe and spine, down to the stomach."""
    at = patient.spine_y
    return [
        _tube(
            6.0, (2, at(150) - 30, 230), (4, at(120) - 24, 120), (4, at(60) - 23, 60), (4, at(0) - 25, 0),
            (8, at(-60) - 34, -60), (26, at(-90) - 50, -92), (46, -10, -100),
        )
    ]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class VesselTree:
    """tubes: one per branch, with a radius from VESSEL_SIZES_MM."""

    tubes: tuple[Tube, ...]

    def between(self, low_mm: float, high_mm: float) -> list[Tube]:
        """Branches of a radius from low (included) to high (not included)."""
        return [tube for tube in self.tubes if low_mm <= tube.radius_mm < high_mm]


def grow(root: tuple[float, float, float], ends: Points, draw: np.random.Generator) -> VesselTree:
    """A tree from `root` that reaches each of `ends`: nearest first, each from the node that is closest.

    The way already gone counts a little, so branches run outwards rather than in circles.
    """
    start = np.array(root)
    ends = ends[np.argsort(_length(ends - start), kind="stable")]
    nodes = np.concatenate([start[None], ends])
    parent = np.zeros(len(nodes), dtype=np.int64)
    gone = np.zeros(len(nodes))
    for n in range(1, len(nodes)):
        away = _length(nodes[:n] - nodes[n])
        parent[n] = (away + 0.35 * gone[:n]).argmin()
        gone[n] = gone[parent[n]] + away[parent[n]]
    radius = _radii(parent)
    bend = np.round(draw.random((len(nodes), 3)) - 0.5, 4)
    a, b = nodes[parent[1:]], nodes[1:]
    middle = (a + b) / 2 + bend[1:] * (0.25 * _length(b - a))[:, None]
    t = np.array([0, 0.25, 0.5, 0.75, 1])[:, None, None]
    curves = np.round((1 - t) * (1 - t) * a + 2 * t * (1 - t) * middle + t * t * b, 4)
    return VesselTree(tuple(Tube(curves[:, n], r, r) for n, r in enumerate(radius[1:])))


def _radii(parent: NDArray[np.int64]) -> list[float]:
    """The radius of each node's branch, from VESSEL_SIZES_MM; a parent comes before its children."""
    cubes = [LEAF_MM**3] * len(parent)
    for n in range(len(parent) - 1, 0, -1):
        cubes[parent[n]] += cubes[n]
    sizes = np.array(VESSEL_SIZES_MM)
    which = np.minimum(np.searchsorted(sizes * sizes * sizes * 1.2, cubes), len(sizes) - 1)
    return [VESSEL_SIZES_MM[n] for n in which]


def _length(vectors: Points) -> NDArray[np.float64]:
    """float64[n]: Euclidean lengths of float64[n, 3], without BLAS (whose rounding differs by machine)."""
    x, y, z = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    return np.asarray(np.sqrt(x * x + y * y + z * z))

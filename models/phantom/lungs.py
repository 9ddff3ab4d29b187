"""What a seed puts into the lungs: where vessels end and where tissue is destroyed.

Both are drawn on a coarse grid of the template, never on the scan's, so that one patient scanned twice
has the same vessels.
"""

from dataclasses import dataclass

import numpy as np

from models.phantom.canvas import Canvas
from models.phantom.materials import Material, in_lung, inside_body
from models.phantom.patient import LUNG_CEILING_MM, LUNG_FLOOR_MM, Patient
from models.phantom.skeleton import collar_bones, ribs
from models.phantom.torso import paint_torso
from models.phantom.trees import (
    FINE_MM,
    HILAR_MM,
    LEFT_HILUM,
    RIGHT_HILUM,
    Points,
    airways,
    great_vessels,
    grow,
    oesophagus,
)
from models.phantom.tubes import Grid

_STEP_MM = (6.0, 4.0, 4.0)
_ENDS = 700
"""Vessel ends per tree; two trees (arteries, veins) per lung."""
_BLOB_MM = (1.9, 2.6, 3.4, 4.6)
"""Radii of emphysematous pockets (centrilobular emphysema: 1 to 10 mm across)."""
_CLUSTER_MM = 16.0


@dataclass(frozen=True, slots=True, eq=False)
class LungSpace:
    """left, right: float64[points, 3] (x, y, z), template mm: a coarse lattice through each lung."""

    left: Points
    right: Points

    @classmethod
    def of(cls, patient: Patient) -> "LungSpace":
        """The lattice points inside this patient's lungs."""
        z_mm = np.arange(LUNG_FLOOR_MM + 3, LUNG_CEILING_MM, _STEP_MM[0])
        y_mm, x_mm = np.arange(-98.0, 100, _STEP_MM[1]), np.arange(-134.0, 135, _STEP_MM[2])
        material = np.zeros((len(z_mm), len(y_mm), len(x_mm)), dtype=np.uint8)
        for painted, z in zip(material, z_mm, strict=True):
            canvas = Canvas(painted, x_mm.astype(np.float32), y_mm.astype(np.float32))
            paint_torso(canvas, patient, float(z))

        def points(lung: Material) -> Points:
            slices, rows, columns = np.nonzero(material == lung)
            return np.stack([x_mm[columns], y_mm[rows], z_mm[slices]], axis=1)

        return cls(points(Material.LUNG_LEFT), points(Material.LUNG_RIGHT))


def stamp_inner_structures(grid: Grid, patient: Patient, *, seed: int, emphysema: float) -> None:
    """Stamp emphysema, vessels, airways, ribs and collar bones into painted slices."""
    space = LungSpace.of(patient)
    _stamp_emphysema(grid, space, np.random.Generator(np.random.PCG64([seed, 2])), emphysema)
    _stamp_vessels(grid, space, np.random.Generator(np.random.PCG64([seed, 3])))
    bone = (Material.CORTEX, Material.MARROW, Material.SPINAL_CANAL, Material.DISC)
    lungs = tuple(Material(n) for n in range(Material.LUNG_LEFT, Material.VESSEL_RIGHT + 1))
    heart = (Material.HEART,)
    blood = inside_body(Material.BLOOD, sparing=bone)
    grid.stamp_tubes(oesophagus(patient), inside_body(Material.OESOPHAGUS, sparing=(*bone, *lungs, *heart)))
    grid.stamp_tubes(great_vessels(patient), blood)
    lumens = airways()
    grid.stamp_tubes([lumen.grown(1.3) for lumen in lumens], inside_body(Material.AIRWAY_WALL, sparing=bone))
    grid.stamp_tubes(lumens, inside_body(Material.AIRWAY_LUMEN, sparing=bone))
    not_rib = (*lungs, *bone[2:], *heart, Material.AIRWAY_LUMEN, Material.SKIN)
    bony, cartilages = ribs(patient)
    bony += collar_bones(patient)
    grid.stamp_tubes(cartilages, inside_body(Material.CARTILAGE, sparing=(*not_rib, *bone)))
    grid.stamp_tubes(bony, inside_body(Material.CORTEX, sparing=(*not_rib, Material.MARROW)))
    grid.stamp_tubes([tube.grown(-1.5) for tube in bony], inside_body(Material.MARROW, sparing=not_rib))


def _stamp_emphysema(grid: Grid, space: LungSpace, draw: np.random.Generator, share: float) -> None:
    """Pockets in clusters, more of them in the upper lobes, until `share` of the lungs is taken."""
    if share == 0:
        return
    lattice = np.concatenate([space.left, space.right])
    goal_mm3 = share * len(lattice) * _STEP_MM[0] * _STEP_MM[1] * _STEP_MM[2]
    pocket_mm3 = [4.18879 * r * r * r for r in _BLOB_MM]
    mean_mm3 = sum(pocket_mm3) / len(pocket_mm3)
    pockets = int(goal_mm3 / mean_mm3 * 2.2)  # they overlap each other and vessels, and their rims blur
    clusters = max(2, pockets // 70)
    height = (lattice[:, 2] - LUNG_FLOOR_MM) / (LUNG_CEILING_MM - LUNG_FLOOR_MM)
    likely = np.cumsum(np.round(0.15 + height * height, 4))
    middles = lattice[np.searchsorted(likely, draw.random(clusters) * likely[-1])]
    cluster = draw.integers(0, clusters, pockets)
    scatter = (draw.random((pockets, 3)) + draw.random((pockets, 3)) - 1) * (1.6 * _CLUSTER_MM)
    centres = np.round(middles[cluster] + scatter, 3)
    size = draw.integers(0, len(_BLOB_MM), pockets)
    becomes = in_lung("EMPHYSEMA")
    for n, radius_mm in enumerate(_BLOB_MM):
        grid.stamp(centres[size == n], radius_mm, radius_mm, becomes)


def _stamp_vessels(grid: Grid, space: LungSpace, draw: np.random.Generator) -> None:
    trees = []
    for hilum, lattice in ((RIGHT_HILUM, space.right), (LEFT_HILUM, space.left)) * 2:  # arteries and veins
        ends = lattice[draw.integers(0, len(lattice), _ENDS)] + np.round(draw.random((_ENDS, 3)) * 4, 3)
        trees.append(grow(hilum, ends, draw))
    everywhere_but_bone = inside_body(Material.BLOOD, sparing=(Material.CORTEX, Material.MARROW))
    for low_mm, high_mm, becomes in (
        (0.0, FINE_MM, in_lung("FINE_VESSEL")),
        (FINE_MM, HILAR_MM, in_lung("VESSEL")),
        (HILAR_MM, 99.0, everywhere_but_bone),
    ):
        grid.stamp_tubes([tube for tree in trees for tube in tree.between(low_mm, high_mm)], becomes)

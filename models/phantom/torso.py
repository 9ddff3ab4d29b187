"""One slice of the trunk: table, skin, fat, muscles, chest wall, lungs, mediastinum, heart, upper abdomen."""

import math

import numpy as np
from numpy.typing import NDArray

from models.phantom.canvas import Canvas, Ellipse, Mask, Region, ellipse
from models.phantom.materials import Material
from models.phantom.patient import LUNG_FLOOR_MM, Patient

TABLE_TOP_MM = 127.0
"""y of the table's lowest point in patient space: just behind the largest patient's back."""


def paint_table(canvas: Canvas) -> None:
    """A shallow trough of foam in a thin shell, 400 mm wide; in mm of the patient, not of the template."""
    x, y = canvas.x, canvas.y[:, None]
    depth = y - (np.float32(TABLE_TOP_MM) - x * x * np.float32(16 / (200 * 200)))
    canvas.material[(depth >= 0) & (depth < 22)] = Material.TABLE_SHELL
    canvas.material[(depth >= 1.5) & (depth < 20.5)] = Material.TABLE_FOAM


def paint_torso(canvas: Canvas, patient: Patient, z: float) -> None:
    """Paint all but bones, tubes and emphysema at height z (template mm)."""
    body = patient.body(z)
    canvas.paint(body, Material.SKIN)
    canvas.paint(body.grown(-1.8), Material.SUBCUTANEOUS_FAT)
    within = canvas.mask(body.grown(-4.0))
    _muscles(canvas, patient, z, within)
    wall = patient.wall(z)
    canvas.paint(wall.grown(1.5), Material.INNER_FAT, within=within)
    canvas.paint(wall, Material.MUSCLE, within=within)
    if z > 112:
        _neck(canvas, z, within)
    if region := canvas.region(patient.cavity(z)):
        _inside(canvas, patient, z, region)


def _muscles(canvas: Canvas, patient: Patient, z: float, within: Mask) -> None:
    m, wall, spine = patient.muscle, patient.wall(z), patient.spine_y(z)
    sides = (-1.0, 1.0)
    for side in sides:

        def put(shape: Ellipse, material: Material = Material.MUSCLE, side: float = side) -> None:
            turned = (shape.tilt[0], shape.tilt[1] * side)
            canvas.paint(
                Ellipse(side * shape.x, shape.y, shape.width, shape.front, shape.back, shape.boxy, turned),
                material,
                within=within,
            )

        # latissimus dorsi and serratus, wrapped around the back of the wall
        lat = max(0.0, min(1.0, (z + 120) / 90)) * m
        put(ellipse(0.80 * wall.width, 0.62 * wall.back, 42, 11 * lat, tilt_deg=-52))
        put(ellipse(0.97 * wall.width, -4, 8 * lat, 50))
        if z > 0:  # pectorals
            t = min(1.0, z / 45) * m
            put(ellipse(0.52 * wall.width + 8, 4 - wall.front * 0.93, 52, 12 * t, tilt_deg=24))
        if 10 < z < 150:  # shoulder blade's muscles, and the shoulder girdle above
            t = min(1.0, (z - 10) / 40, (150 - z) / 20)
            put(ellipse(0.5 * wall.width + 40, wall.back * 0.80 - 4, 50, 19 * t * m, tilt_deg=-38))
        if z > 85:
            t = min(1.0, (z - 85) / 30)
            put(ellipse(112, 8, 36 * t, 42 * t * m))
        if z < -60:  # rectus abdominis
            put(ellipse(30, 2 - wall.front * 0.97 - 4, 30, 6 * m))
        put(ellipse(25, spine + 42, 21, 15 * m))  # erector spinae
        if z > 40:  # trapezius
            put(ellipse(40, spine + 50, 52, 8 * m, tilt_deg=-10))
    canvas.paint(ellipse(0.0, spine + 30, 36, 22), Material.MUSCLE, within=within)


def _neck(canvas: Canvas, z: float, within: Mask) -> None:
    canvas.paint(ellipse(0, -4, 40, 34), Material.INNER_FAT, within=within)
    for side in (-1, 1):
        canvas.paint(ellipse(side * 40, -18, 12, 20, tilt_deg=side * 30), Material.MUSCLE, within=within)
        if 120 < z < 165:
            reach = min(1.0, (z - 120) / 12, (165 - z) / 12)
            canvas.paint(ellipse(side * 15, 0, 8 * reach, 13 * reach), Material.THYROID, within=within)
        canvas.paint(ellipse(side * 14, 32, 12, 8), Material.MUSCLE, within=within)


def _inside(canvas: Canvas, patient: Patient, z: float, region: Region) -> None:
    cavity = np.zeros(canvas.material.shape, dtype=np.bool_)
    cavity[region.rows, region.columns] = region.mask
    if z < LUNG_FLOOR_MM:
        canvas.fill(region, Material.INNER_FAT)
    else:
        canvas.fill(region, Material.LUNG_RIGHT)
        middle = int(np.searchsorted(canvas.x, np.float32(0)))
        left = Region(slice(0, len(canvas.y)), slice(middle, len(canvas.x)), cavity[:, middle:])
        canvas.fill(left, Material.LUNG_LEFT)
        right_mm, left_mm = _mediastinum(canvas.y, z)
        canvas.fill(canvas.band(right_mm, left_mm, 60), Material.INNER_FAT, within=cavity)
    canvas.paint(
        ellipse(0, patient.spine_y(z) + 18, 25, 30), Material.MUSCLE, within=cavity
    )  # beside the vertebrae
    below = _abdomen(canvas, patient, z, cavity)
    _heart(canvas, patient, z, cavity & ~below)


_BAND_Y = np.array([-90, -60, -30, 0, 30, 50, 90], dtype=np.float64)
_BAND_Z = np.array([-130, -80, -40, 0, 25, 60, 95, 136], dtype=np.float64)
_BAND_RIGHT = np.array(
    [
        [10, 22, 30, 32, 24, 20, 22],
        [9, 20, 30, 34, 24, 20, 22],
        [5, 14, 28, 34, 26, 19, 22],
        [3, 10, 28, 36, 28, 19, 22],
        [3, 9, 26, 38, 30, 19, 22],
        [3, 12, 28, 30, 22, 18, 22],
        [22, 28, 34, 30, 22, 18, 24],
        [30, 32, 34, 32, 28, 26, 30],
    ],
    dtype=np.float64,
)
_BAND_LEFT = np.array(
    [
        [14, 40, 46, 40, 30, 26, 24],
        [13, 34, 44, 38, 30, 26, 24],
        [9, 24, 36, 34, 30, 26, 22],
        [4, 15, 32, 38, 32, 26, 22],
        [2, 9, 27, 38, 34, 28, 22],
        [2, 11, 24, 30, 32, 24, 22],
        [22, 28, 32, 32, 28, 20, 24],
        [30, 32, 34, 32, 28, 26, 30],
    ],
    dtype=np.float64,
)


def _mediastinum(y: NDArray[np.float32], z: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Half-widths in mm of the mediastinum to the right and to the left, float32[rows] each."""
    at = float(np.interp(z, _BAND_Z, np.arange(len(_BAND_Z))))
    lower = min(int(at), len(_BAND_Z) - 2)
    share = at - lower
    right, left = (
        np.interp(y, _BAND_Y, band[lower] * (1 - share) + band[lower + 1] * share).astype(np.float32)
        for band in (_BAND_RIGHT, _BAND_LEFT)
    )
    return right, left


def _ball(
    centre: tuple[float, float, float], half: tuple[float, float, float], z: float, **turn: float
) -> Ellipse:
    """The slice at z of the ellipsoid at `centre` with half-axes `half`, both (x, y, z)."""
    rise = (z - centre[2]) / half[2]
    share = math.sqrt(max(0.0, 1 - rise * rise))
    return ellipse(centre[0], centre[1], half[0] * share, half[1] * share, **turn)


def _heart(canvas: Canvas, patient: Patient, z: float, cavity: Mask) -> None:
    if not -90 < z < 30:
        return
    s, turn = patient.heart, -patient.heart_turn_deg
    chambers = [
        _ball((26, -26, -36), (60 * s, 43 * s, 50 * s), z, tilt_deg=turn),
        _ball((-22, -20, -24), (30 * s, 34 * s, 44 * s), z),
        _ball((2, 12, -12), (36 * s, 20 * s, 30 * s), z, boxy=0.3),
        _ball((10, -44, -18), (36 * s, 22 * s, 40 * s), z),
    ]
    for chamber in chambers:
        if chamber.width > 2:
            canvas.paint(chamber.grown(3.5), Material.INNER_FAT, within=cavity)
    for chamber in chambers:
        canvas.paint(chamber, Material.HEART, within=cavity)


_DOME_DEPTH_MM = 58.0
_DOME_BOXY = 0.45


def _dome(top: float, centre: tuple[float, float], half: tuple[float, float], z: float) -> Ellipse:
    """The slice at z of a paraboloid dome `_DOME_DEPTH_MM` above where its half-axes are `half`."""
    share = math.sqrt(max(0.0, (top - z) / _DOME_DEPTH_MM))
    return ellipse(centre[0], centre[1], half[0] * share, half[1] * share, boxy=_DOME_BOXY)


def _abdomen(canvas: Canvas, patient: Patient, z: float, cavity: Mask) -> Mask:
    """Paint what lies below the diaphragm; return where that is, bool[rows, columns]."""
    right = _dome(patient.right_dome_mm, (-54, -6), (80, 82), z)
    left = _dome(patient.left_dome_mm, (60, -4), (76, 82), z)
    middle = _dome(patient.left_dome_mm - 12, (6, -36), (70, 62), z)  # under the heart
    domes = np.zeros_like(cavity)
    for dome in (right, left, middle):
        if region := canvas.region(dome):
            domes[region.rows, region.columns] |= region.mask
    if z < LUNG_FLOOR_MM:
        domes[:] = True
    domes &= cavity
    if not domes.any():
        return domes
    np.copyto(canvas.material, np.uint8(Material.MUSCLE), where=domes)
    for dome in (right, left, middle):
        canvas.paint(dome.grown(-2.5), Material.INNER_FAT, within=domes)
    canvas.paint(
        ellipse(0, patient.spine_y(z) + 10, 36, 30), Material.MUSCLE, within=domes
    )  # crura and psoas
    if z < LUNG_FLOOR_MM:
        canvas.paint(patient.cavity(z).grown(-4), Material.INNER_FAT, within=domes)
        canvas.paint(ellipse(0, patient.spine_y(z) + 2, 40, 24), Material.MUSCLE, within=domes)
    _organs(canvas, patient, z, domes, right)
    return domes


def _organs(canvas: Canvas, patient: Patient, z: float, domes: Mask, right: Ellipse) -> None:
    spleen = _ball((92, 42, -114), (26, 40, 44), z, tilt_deg=70)
    canvas.paint(spleen, Material.SPLEEN, within=domes)
    stomach = _ball((56, -22, -112), (42, 40, 40), z, tilt_deg=-25)
    canvas.paint(stomach.grown(3) if stomach.width else stomach, Material.MUSCLE, within=domes)
    canvas.paint(stomach, Material.STOMACH, within=domes)
    if (region := canvas.region(stomach)) and patient.stomach_gas > 0.1:
        level = np.float32(-22 - 40 * (1 - 0.8 * patient.stomach_gas))
        gas = region.mask & (canvas.y[region.rows] < level)[:, None]
        canvas.fill(Region(region.rows, region.columns, gas), Material.STOMACH_GAS, within=domes)
    s = patient.liver
    if z > LUNG_FLOOR_MM - 6:
        liver = right.grown(-3)
    else:
        shrink = 1 - max(0.0, LUNG_FLOOR_MM - 6 - z) / 220
        liver = ellipse(-58, -8, 72 * shrink * s, 80 * shrink * s, boxy=0.4)
    canvas.paint(liver, Material.LIVER, within=domes)
    canvas.paint(_ball((6, -46, -112), (52 * s, 30 * s, 42), z, tilt_deg=12), Material.LIVER, within=domes)
    for x in (-56.0, 56.0):
        kidney = _ball((x, 52, -176), (27, 30, 46), z)
        if kidney.width > 2:
            canvas.paint(kidney.grown(6), Material.INNER_FAT, within=domes)
            canvas.paint(kidney, Material.KIDNEY, within=domes)
            canvas.paint(ellipse(x * 0.86, 48, 9, 7), Material.INNER_FAT, within=domes)

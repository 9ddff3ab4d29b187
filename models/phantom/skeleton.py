"""Bones: what is painted slice by slice (spine, breastbone, shoulder blades) and the paths of the ribs."""

import math

import numpy as np
from numpy.typing import NDArray

from models.phantom.canvas import Canvas, Ellipse, ellipse
from models.phantom.materials import Material
from models.phantom.patient import CAVITY_BOXY, LUNG_CEILING_MM, VERTEBRA_MM, Patient
from models.phantom.tubes import Tube

RIBS = 12
_SHELL_MM = 1.6
"""Thickness of compact bone where it is drawn."""


def paint_bones(canvas: Canvas, patient: Patient, z: float) -> None:
    """Paint the vertebra, the breastbone and the shoulder blades at height z (template mm)."""
    _vertebra(canvas, patient, z)
    _breastbone(canvas, patient, z)
    _shoulder_blades(canvas, patient, z)


def _bone(canvas: Canvas, shape: Ellipse, shell_mm: float = _SHELL_MM) -> None:
    canvas.paint(shape, Material.CORTEX)
    canvas.paint(shape.grown(-shell_mm), Material.MARROW)


def _vertebra(canvas: Canvas, patient: Patient, z: float) -> None:
    y, at = patient.spine_y(z), patient.vertebra(z)
    size = 1.0 - z / 900  # lower vertebrae are larger
    body = Ellipse(0.0, y, 17 * size, 15 * size, 12 * size, 0.3)
    canal = ellipse(0.0, y + 12 * size + 9, 10, 8.5)
    disc = at < 0.18
    waist = 1.6 * (1 - abs(at - 0.59) / 0.41)  # bodies are slimmer half-way up
    if disc:
        canvas.paint(body.grown(0.5), Material.DISC)
    elif at < 0.26 or at > 0.92:
        canvas.paint(body.grown(0.8), Material.CORTEX)
        canvas.paint(body.grown(-2.4), Material.MARROW)
    else:
        _bone(canvas, body.grown(-waist))
    for side in (-1, 1):
        if 0.55 < at < 0.9:  # pedicles; between them the nerves' openings
            _bone(canvas, ellipse(side * 11.5, canal.y - 6, 4.5, 9, tilt_deg=-side * 8))
        if 0.5 < at < 0.85:
            reach = 22 * (1 - abs(at - 0.68) / 0.3)
            _bone(
                canvas,
                ellipse(side * (12 + reach * 0.7), canal.y + 7 + reach * 0.2, 15, 5.5, tilt_deg=side * 24),
            )
        _bone(canvas, ellipse(side * 10.5, canal.y + 8, 9, 4.5, tilt_deg=-side * 35))  # laminae
        canvas.paint(ellipse(side * 15.5, canal.y + 2, 3.5, 7), Material.CORTEX)  # facet joints
    canvas.paint(canal, Material.INNER_FAT)
    canvas.paint(canal.grown(-1.5), Material.SPINAL_CANAL)
    slant = (at + 0.35) % 1.0  # spinous processes point down and back
    length = min(13 - 5 * slant, (patient.body(z).back - 6 - canal.y - 10) / 2)  # stays under the skin
    _bone(canvas, ellipse(0, canal.y + 10 + length, 4.2, length))


def _breastbone(canvas: Canvas, patient: Patient, z: float) -> None:
    if not -78 < z < 98:
        return
    cavity = patient.cavity(z)
    y = cavity.y - cavity.front - 7.0
    if z > 52:
        _bone(canvas, ellipse(0, y, 21 + 0.22 * (z - 52), 6.5, boxy=0.4), 1.2)
    elif z > 48:
        canvas.paint(ellipse(0, y, 18, 6), Material.CARTILAGE)
    elif z > -48:
        _bone(canvas, ellipse(0, y, 16 - 0.03 * (z + 48), 5.5, boxy=0.4), 1.2)
    else:
        share = 1 - (-48 - z) / 34
        canvas.paint(ellipse(0, y + 1, 9 * share, 4 * share), Material.CARTILAGE)


def _shoulder_blades(canvas: Canvas, patient: Patient, z: float) -> None:
    if not 12 < z < 136:
        return
    wall = patient.wall(z)
    length = 46 * min(1.0, (z - 8) / 55)
    x, y = 0.5 * wall.width + 42, wall.back * 0.80 - 3
    for side in (-1, 1):
        blade = ellipse(side * x, y, length, 3.2, tilt_deg=-side * 38)
        canvas.paint(blade, Material.CORTEX)
        canvas.paint(blade.grown(-1.9), Material.MARROW)
        if 84 < z < 130:  # the spine of the blade, rising towards the shoulder's tip
            reach = 30 * min(1.0, (z - 84) / 16)
            _bone(canvas, ellipse(side * (x + 14), y + 9, reach, 4.0, tilt_deg=-side * 16))
        if 94 < z < 134:
            _bone(canvas, ellipse(side * (x + 36), y - 32, 9, 14, tilt_deg=side * 10))


def ribs(patient: Patient) -> tuple[list[Tube], list[Tube]]:
    """Both sides' ribs, and their cartilages."""
    bones: list[Tube] = []
    cartilages: list[Tube] = []
    top = _first_rib_z(patient)
    for rib in range(RIBS):
        path, bone_points = _rib(patient, top - VERTEBRA_MM * rib, rib)
        for side in (-1.0, 1.0):
            sided = path * np.array([side, 1.0, 1.0])
            bones.append(Tube(sided[:bone_points], 3.6, 6.2 if rib else 4.6))
            if len(path) > bone_points:
                cartilages.append(Tube(sided[bone_points:], 3.4, 5.0))
    return bones, cartilages


def collar_bones(patient: Patient) -> list[Tube]:
    """Both clavicles."""
    cavity = patient.cavity(92)
    y = cavity.y - cavity.front - 7.0
    knots = np.array([[22, y, 97], [50, y - 2, 106], [85, y + 14, 116], [118, y + 34, 126]])
    return [Tube(smooth_path(knots * np.array([side, 1, 1]), 8), 5.5, 5.5) for side in (-1, 1)]


def _first_rib_z(patient: Patient) -> float:
    """z of the head of the first rib: the upper part of the vertebra nearest under the lung apices."""
    below = (LUNG_CEILING_MM - 8 + patient.vertebra_phase_mm) % VERTEBRA_MM
    return LUNG_CEILING_MM - 8 - below + 0.7 * VERTEBRA_MM - 12


def _rib(patient: Patient, head_z: float, rib: int) -> tuple[NDArray[np.float64], int]:
    """Left rib: float64[points, 3] (x, y, z) from the spine forward, and how many of them are bone.

    Directions go around the rib cage from back (0) to front (1); the drop grows towards the front.
    """
    drop = (30, 42, 52, 60, 66, 70, 74, 78, 76, 66, 46, 30)[rib]
    bony = (0.76, 0.76, 0.76, 0.75, 0.74, 0.72, 0.70, 0.66, 0.60, 0.54, 0.42, 0.30)[rib]
    reach = (0.90, 0.91, 0.92, 0.92, 0.92, 0.92, 0.92, 0.84, 0.76, 0.68, 0.44, 0.32)[rib]
    around = np.linspace(0.07, reach, 90)
    points = []
    for turn in around:
        back = max(0.0, turn - 0.05)
        z = head_z + 4 - drop * back * (1.35 - 0.35 * back)
        if turn > bony and rib > 0:  # cartilage turns up again to the breastbone
            z += (turn - bony) / (1 - bony) * (10 + 7 * min(rib, 8))
        cage = patient.cavity(min(z, LUNG_CEILING_MM - 4)).grown(6.2)
        angle = np.pi * turn
        across, along = round(float(np.sin(angle)), 9), round(float(np.cos(angle)), 9)
        depth = cage.back if along > 0 else cage.front
        far = _boxy_radius(across / cage.width, along / depth)
        x, y = far * across, cage.y + far * along
        points.append((x, y, z))
    head = (15.0, patient.spine_y(head_z + 4) + 6, head_z + 5)
    path = np.array([head, *points])
    return np.round(path, 4), int(np.count_nonzero(around <= bony)) + 1


def _boxy_radius(across: float, along: float) -> float:
    """Distance to the outline of a boxy ellipse, given a direction's components over its half-axes."""
    u, v = across * across, along * along
    linear, square = u + v, CAVITY_BOXY * u * v
    if square < 1e-12:
        return 1 / math.sqrt(linear)
    return math.sqrt((linear - math.sqrt(linear * linear - 4 * square)) / (2 * square))


def smooth_path(knots: NDArray[np.float64], per_part: int) -> NDArray[np.float64]:
    """float64[points, 3]: a Catmull-Rom curve through float64[knots, 3]."""
    ends = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, 1, per_part, endpoint=False)[:, None]
    parts = [
        0.5
        * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - 3 * c + d - a) * t * t * t)
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    return np.round(np.concatenate([*parts, knots[-1:]]), 4)

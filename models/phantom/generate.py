"""From a spec to a phantom: paint slices, stamp tubes, scan."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.phantom.canvas import Canvas
from models.phantom.imaging import Image, Scanner, slab_weights
from models.phantom.lungs import stamp_inner_structures
from models.phantom.materials import LABEL_OF_MATERIAL, SEGMENTS
from models.phantom.patient import Patient
from models.phantom.skeleton import paint_bones
from models.phantom.spec import Phantom, PhantomSpec
from models.phantom.torso import paint_table, paint_torso
from models.phantom.tubes import Grid
from models.values import HU, LabelMap, Volume

_COARSEST_PLANE_MM = 2.5
"""Slices further apart than this are painted as several planes, so thick slices blur what they should."""


def make_phantom(spec: PhantomSpec) -> Phantom:
    """The patient `spec.seed`, scanned as `spec` says. Equal specs give equal bytes on any machine."""
    voxels = np.empty(spec.shape, dtype=np.float32)
    labels = np.empty(spec.shape, dtype=np.uint8)
    for index, (hu, truth) in enumerate(scan(spec)):
        voxels[index], labels[index] = hu, truth
    affine = spec.affine()
    return Phantom(spec, Volume(voxels, affine, HU), LabelMap(labels, affine, SEGMENTS))


def scan(spec: PhantomSpec) -> Iterator[tuple[Image, NDArray[np.uint8]]]:
    """The phantom, lowest slice first: HU (float32[rows, columns], whole numbers) and true labels (uint8)."""
    per_slice = _planes_per_slice(spec)
    weights = slab_weights(spec.thickness_mm * per_slice / spec.spacing_mm[0])
    materials = _paint(spec, per_slice, len(weights) // 2)
    middles = materials[len(weights) // 2 :: per_slice]
    scanner = Scanner.of(spec)
    for index, clean in enumerate(_slabs(scanner, materials, per_slice, weights)):
        truth = np.take(LABEL_OF_MATERIAL, middles[index].astype(np.intp))
        yield scanner.acquire(clean, index), truth


def _planes_per_slice(spec: PhantomSpec) -> int:
    """An odd number, so that one plane lies in the middle of each slice."""
    planes = math.ceil(spec.spacing_mm[0] / _COARSEST_PLANE_MM - 1e-9)
    return planes + 1 - planes % 2


def _paint(spec: PhantomSpec, per_slice: int, beyond: int) -> NDArray[np.uint8]:
    """uint8[planes, rows, columns]: materials; `beyond` planes more than slices need at either end."""
    patient = Patient.of(spec.seed)
    scale = np.array(patient.scale)
    z, y, x = (spec.axis_mm(axis) for axis in range(3))
    step = spec.spacing_mm[0] / per_slice
    planes_z = z[0] + (np.arange((spec.slices - 1) * per_slice + 1 + 2 * beyond) - beyond) * step
    table = Canvas(np.zeros((spec.rows, spec.columns), np.uint8), x.astype(np.float32), y.astype(np.float32))
    if spec.table:
        paint_table(table)
    materials = np.empty((len(planes_z), spec.rows, spec.columns), dtype=np.uint8)
    template_x, template_y = (x / scale[2]).astype(np.float32), (y / scale[1]).astype(np.float32)
    for material, at in zip(materials, planes_z / scale[0], strict=True):
        material[:] = table.material
        canvas = Canvas(material, template_x, template_y)
        paint_torso(canvas, patient, float(at))
        paint_bones(canvas, patient, float(at))
    origin = np.array([planes_z[0], y[0], x[0]]) / scale
    grid = Grid(materials, origin, np.array([step, *spec.spacing_mm[1:]]) / scale)
    stamp_inner_structures(grid, patient, seed=spec.seed, emphysema=spec.emphysema)
    return materials


def _slabs(
    scanner: Scanner, materials: NDArray[np.uint8], per_slice: int, weights: NDArray[np.float32]
) -> Iterator[Image]:
    """Ideal images, one per slice, each the weighted mean of the planes that its thickness covers."""
    if len(weights) == 1:
        yield from (scanner.clean(material) for material in materials[::per_slice])
        return
    planes: dict[int, Image] = {}
    for first in range(0, len(materials) - len(weights) + 1, per_slice):
        wanted = range(first, first + len(weights))
        planes = {n: planes[n] if n in planes else scanner.clean(materials[n]) for n in wanted}
        slab = planes[first] * weights[0]
        for n, weight in zip(wanted[1:], weights[1:], strict=True):
            slab += planes[n] * weight
        yield slab

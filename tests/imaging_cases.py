"""Small volumes, masks and contexts for tests of operators."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from models.operators.base import KernelContext, NetworkSession, Operator
from models.values import HU, Affine, ImageReference, LabelMap, Series, Value, Volume


class NoResources:
    """For operators that need none."""

    def network(self, graph: str) -> NetworkSession:
        raise AssertionError("asked for a network")

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        raise AssertionError("asked for parameters")


def grid(spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Affine:
    """Axes to Superior, Posterior, Left (LPS), as `reorient: SPL` gives."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:3, 3] = (-7.0, 3.0, 11.0)
    affine[3, 3] = 1.0
    return affine


def volume(voxels: Any, affine: Affine | None = None, unit: str = HU) -> Volume:
    return Volume(
        voxels=np.asarray(voxels, np.float32), affine=grid() if affine is None else affine, unit=unit
    )


def mask(labels: Any, affine: Affine | None = None, *segments: str) -> LabelMap:
    return LabelMap(
        labels=np.asarray(labels, np.uint8),
        affine=grid() if affine is None else affine,
        segments=segments or ("mask",),
    )


def applied(operator: Operator, *inputs: Value) -> Any:
    return operator.apply(inputs, KernelContext(resources=NoResources()))


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def series_in(folder: Path) -> Series:
    images = []
    for path in filter(Path.is_file, folder.rglob("*")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        images.append(ImageReference(str(path), "", str(header.SOPInstanceUID)))
    return Series(tuple(sorted(images, key=lambda image: image.sop_instance_uid)))


def unzipped(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as files:
        files.extractall(folder)
    return folder

"""Slices to learn from: phantoms, and real series where there are any. Never `ct-chest-philips`."""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from models.phantom import PhantomSpec, make_phantom
from models.phantom.spec import Kernel
from models.pipeline_file import pipeline_path, read_pipeline
from models.training.grid import MIN_HU, centred, labels_on_grid, lungs_only, on_grid
from models.training.local import STACKED, run_pipeline, stacked_volume
from models.values import LabelMap, Volume

SIDE = 208
"""Rows and columns kept of every slice: 416 mm."""
TRAINING_SEEDS = range(1000, 1048)
SITE_SEEDS = range(1000, 1008)
"""Patients whose scans a site's normalisation is estimated on; training saw them otherwise scanned."""
HELD_OUT_SEEDS = range(2000, 2006)
"""Patients that neither training nor any variant saw."""
CHEST_MM = 270.0

NO_LUNG = ("ct-abdomen-siemens-j2k", "ct-head-phantom-philips")
"""Real series without lung: by TotalSegmentator's published labels, and a head of plastic."""
WITH_TEACHER = ("seg-ct-liver/ct",)
"""Real series where `ct-lungs` is the teacher; its masks were looked at."""
KERNELS: tuple[Kernel, ...] = ("smooth", "standard", "sharp")


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """hu: float32[n, rows, columns]; labels: uint8 of that shape, 0 background, 1 left, 2 right lung."""

    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class RealSeries:
    """A stacked series in HU and its lungs, on one grid."""

    name: str
    volume: Volume
    lungs: LabelMap


def training_spec(seed: int) -> PhantomSpec:
    """A patient in a scan that the seed chooses: kernel, dose, slice thickness, field of view, emphysema."""
    draw = Random(f"scan {seed}")  # noqa: S311 - nothing secret
    pixel_mm = draw.uniform(0.62, 0.92)
    return PhantomSpec(
        seed=seed,
        slices=36,
        rows=512,
        columns=512,
        spacing_mm=(CHEST_MM / 36, pixel_mm, pixel_mm),
        slice_thickness_mm=draw.choice((1.0, 1.5, 2.0, 3.0, 5.0)),
        kernel=draw.choice(KERNELS),
        noise_hu=draw.uniform(5.0, 50.0),
        emphysema=draw.choice((0.0, 0.0, 0.04, 0.15)),
        table=draw.random() < 0.8,
    )


def phantom_slices(specs: Sequence[PhantomSpec]) -> Slices:
    """All slices of phantoms on the network's grid."""
    parts = []
    for spec in specs:
        phantom = make_phantom(spec)
        parts.append(on_network_grid(phantom.volume, lungs_only(phantom.truth)))
    return joined(parts)


def on_network_grid(volume: Volume, lungs: LabelMap) -> Slices:
    """The slices of a volume and their labels as the network gets them, SIDE by SIDE pixels."""
    hu = centred(on_grid(volume).voxels, SIDE, MIN_HU)
    labels = centred(labels_on_grid(lungs).astype(np.float32), SIDE, 0)
    return Slices(hu, labels.astype(np.uint8))


def joined(parts: Sequence[Slices]) -> Slices:
    """One after the other."""
    return Slices(np.concatenate([p.hu for p in parts]), np.concatenate([p.labels for p in parts]))


def real_series(data: Path) -> list[RealSeries]:
    """The real series to learn from that are there, below `data`/dicom."""
    teacher = read_pipeline(pipeline_path("ct-lungs"))
    found = []
    for name in (*NO_LUNG, *WITH_TEACHER):
        with series_folder(data, name) as folder:
            if folder is None:
                continue
            volume = stacked_volume(teacher, folder)
        if name in WITH_TEACHER:
            (lungs,) = run_pipeline(teacher, {STACKED: volume}, "lungs")
            assert isinstance(lungs, LabelMap)
        else:
            nothing = np.zeros(volume.shape, np.uint8)
            lungs = LabelMap(nothing, volume.affine, ("Left lung", "Right lung"))
        found.append(RealSeries(name, volume, lungs))
    return found


@contextmanager
def series_folder(data: Path, name: str) -> Iterator[Path | None]:
    """The folder of a series below `data`/dicom, unpacked where it is a zip file; None if it is absent."""
    folder, archive = data / "dicom" / name, data / "dicom" / f"{name}.zip"
    if folder.is_dir():
        yield folder
    elif archive.is_file():
        with tempfile.TemporaryDirectory() as unpacked:
            with zipfile.ZipFile(archive) as files:
                files.extractall(unpacked)
            yield next(path.parent for path in sorted(Path(unpacked).rglob("*")) if path.is_file())
    else:
        yield None

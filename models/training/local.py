"""Run a pipeline file here and now, without a store: for training and for judging what was trained."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.geometry import source_affine
from models.operators.base import KernelContext, NetworkSession
from models.pipeline import SOURCE, Pipeline, check
from models.values import ImageReference, Series, SourcePlanes, Value, Volume

STACKED = "stacked"
"""What the bundled pipelines call the step that gives the volume of the source images."""


class FileResources:
    """Networks and parameters by path, as a pipeline names them before it is compiled."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._sessions: dict[str, NetworkSession] = {}

    def network(self, graph: str) -> NetworkSession:
        from models.engines.onnxruntime import OnnxSession

        if graph not in self._sessions:
            self._sessions[graph] = OnnxSession(Path(graph).read_bytes(), threads=self._threads)
        return self._sessions[graph]

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        return read_parameters(Path(digest))


def read_parameters(path: Path) -> dict[str, NDArray[np.float32]]:
    """The arrays of an .npz by name."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


CONTEXT = KernelContext(resources=FileResources())


def run_pipeline(
    pipeline: Pipeline, given: Mapping[str, Value], *gives: str, context: KernelContext = CONTEXT
) -> list[Value]:
    """The values of the steps `gives`, computed from those in `given` (SOURCE or any steps)."""
    values: dict[str, Any] = dict(given)
    for name in check(pipeline):
        step = pipeline.step(name)
        if name not in values and all(source in values for source in step.inputs):
            values[name] = step.operator.apply([values[source] for source in step.inputs], context)
    return [values[name] for name in gives]


def series_in(folder: Path) -> Series:
    """All DICOM images in a folder. UIDs missing in the data set are taken from the file meta information."""
    from pydicom import dcmread

    images = []
    for path in sorted(folder.iterdir()):
        header = dcmread(path, stop_before_pixels=True)
        uid = header.get("SOPInstanceUID") or header.file_meta.MediaStorageSOPInstanceUID
        images.append(ImageReference(str(path), "", str(uid)))
    return Series(tuple(sorted(images, key=lambda image: image.sop_instance_uid)))


def stacked_volume(pipeline: Pipeline, folder: Path) -> Volume:
    """What `pipeline` stacks of the series in a folder."""
    (volume,) = run_pipeline(pipeline, {SOURCE: series_in(folder)}, STACKED)
    assert isinstance(volume, Volume)
    return volume


def as_stacked(volume: Volume) -> Volume:
    """An axial volume (slices up, rows to the back, columns to the left) as if `stack` had made it."""
    slices, rows, columns = volume.shape
    slice_mm, row_mm, column_mm = volume.spacing_mm
    first = volume.affine[:3, 3]
    positions = first + np.arange(slices)[:, None] * np.array([0.0, 0.0, slice_mm])
    planes = SourcePlanes(
        image_index=tuple(range(slices)),
        positions_mm=positions,
        image_orientation_patient=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        pixel_spacing=(row_mm, column_mm),
        rows=rows,
        columns=columns,
    )
    return replace(volume, source=planes, affine=source_affine(planes))

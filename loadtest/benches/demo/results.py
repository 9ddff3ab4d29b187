"""What came back: SEG files fetched by WADO-RS, compared with the truth, drawn over the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loadtest.benches.demo.sent import Sent
from loadtest.client import Job, LightboxClient
from loadtest.segmentation import SegmentationMasks, dice, read_segmentation
from models.contact_sheet import LUNG_WINDOW, SOFT_TISSUE_WINDOW, contact_sheet
from models.values import HU, LabelMap, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

BONE_WINDOW = (400.0, 1800.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One output of one job: where its files are, how its masks compare with a known truth."""

    sent: Sent
    job: Job
    output: str
    seg_file: Path
    sheet_file: Path
    dice: dict[str, float]
    measurements: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A series as a volume: HU, lowest along the slice normal first; order: its SOP Instance UIDs."""

    volume: Volume
    order: list[str]


def fetch(client: LightboxClient, sent: Sent, jobs: Sequence[Job], folder: Path) -> list[Result]:
    """Fetch every result of these jobs, write SEG and contact sheet into `folder`, compare."""
    with_results = [job for job in jobs if job["results"]]
    if not with_results:
        return []
    images = read_images(sent)
    found = []
    for job in sorted(with_results, key=lambda job: str(job["pipeline"])):
        for item in job["results"]:
            (data,) = client.retrieve(
                job["study_instance_uid"], item["series_instance_uid"], item["sop_instance_uid"]
            )
            name = f"{sent.name}-{job['pipeline']}-{item['output']}"
            seg_file, sheet_file = folder / f"{name}.dcm", folder / f"{name}.png"
            seg_file.write_bytes(data)
            masks = read_segmentation(data)
            sheet_file.write_bytes(_sheet(images, masks, name))
            found.append(
                Result(
                    sent=sent,
                    job=job,
                    output=item["output"],
                    seg_file=seg_file,
                    sheet_file=sheet_file,
                    dice=_compare(sent, masks),
                    measurements=item["measurements"],
                )
            )
    return found


def read_images(sent: Sent) -> Images:
    """Pixels in HU and where they lie, from the files that were sent."""
    from pydicom import dcmread

    datasets = [dcmread(BytesIO(instance.data)) for instance in sent.study.instances]
    along_row, along_column = np.split(np.array(datasets[0].ImageOrientationPatient, dtype=float), 2)
    normal = np.cross(along_row, along_column)
    positions = np.array([ds.ImagePositionPatient for ds in datasets], dtype=float)
    order = np.argsort(positions @ normal, kind="stable")
    voxels = np.stack([_in_hu(datasets[n]) for n in order])
    row_mm, column_mm = map(float, datasets[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = (positions[order[-1]] - positions[order[0]]) / max(1, len(order) - 1)
    affine[:3, 1], affine[:3, 2] = along_column * row_mm, along_row * column_mm
    affine[:3, 3] = positions[order[0]]
    uids = [sent.study.instances[n].sop_instance_uid for n in order]
    return Images(Volume(voxels, affine, HU), uids)


def _in_hu(ds: "Dataset") -> NDArray[np.float32]:
    """float32[rows, columns] of one CT image."""
    stored = ds.pixel_array.astype(np.float32)
    return np.asarray(stored * float(ds.RescaleSlope) + float(ds.RescaleIntercept), dtype=np.float32)


def _compare(sent: Sent, masks: SegmentationMasks) -> dict[str, float]:
    """Dice by segment, where the truth is known. Truth and instances are in the same order."""
    uids = [instance.sop_instance_uid for instance in sent.study.instances]
    compared = {}
    for segment in masks.segments:
        truth = sent.true_mask(segment)
        if truth is not None:
            compared[segment] = dice(masks.stacked(segment, uids, truth.shape[1:]), truth)
    return compared


def _sheet(images: Images, masks: SegmentationMasks, caption: str) -> bytes:
    """One picture of the volume and all segments of one SEG, which are disjoint."""
    shape = images.volume.voxels.shape
    labels: NDArray[np.uint8] = np.zeros(shape, dtype=np.uint8)
    for number, segment in enumerate(masks.segments, 1):
        labels[masks.stacked(segment, images.order, shape[1:])] = number
    label_map = LabelMap(labels, images.volume.affine, masks.segments)
    return contact_sheet(images.volume, [label_map], window=_window(masks.segments), caption=caption)


def _window(segments: Sequence[str]) -> tuple[float, float]:
    """What shows best whether these segments are where they should be."""
    names = " ".join(segments).lower()
    if "lung" in names:
        return LUNG_WINDOW
    return BONE_WINDOW if "bone" in names else SOFT_TISSUE_WINDOW

"""DICOM series for tests: small synthetic ones, and the real ones beside the project."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from models.operators.base import KernelContext, NetworkSession
from models.operators.decode import DecodeImages
from models.operators.stacking import Stack
from models.values import DecodedImage, ImageReference, Images, Series, Volume

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class NoResources:
    """For kernels that need nothing besides their inputs."""

    def network(self, graph: str) -> NetworkSession:
        raise AssertionError(graph)

    def parameters(self, digest: str) -> dict[str, NDArray[np.float32]]:
        raise AssertionError(digest)


CONTEXT = KernelContext(resources=NoResources())


def ct_dataset(stored: NDArray[Any] | None = None, *, number: int = 1, z_mm: float = 0.0) -> Dataset:
    """A CT image of int16 (or as `stored` is) with rescale intercept -1024."""
    if stored is None:
        stored = np.arange(24, dtype=np.int16).reshape(4, 6)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CT_IMAGE_STORAGE
    image.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.1.{number}"
    image.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    image.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
    image.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.4"
    image.PatientName, image.PatientID = "Doe^Jane", "SECRET-42"
    image.Modality = "CT"
    image.InstanceNumber = number
    image.SeriesNumber = 7
    image.ImagePositionPatient = [-10.5, 20.25, z_mm]
    image.ImageOrientationPatient = list(AXIAL)
    image.PixelSpacing = [0.5, 0.75]
    image.SliceThickness = 2
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 8 * stored.dtype.itemsize
    image.HighBit = image.BitsStored - 1
    image.PixelRepresentation = 1 if stored.dtype.kind == "i" else 0
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.PixelData = stored.tobytes()
    image["PixelData"].VR = "OW"
    return image


def written(image: Dataset, path: Path, syntax: UID | None = None) -> Path:
    """The image as a Part 10 file, in another uncompressed transfer syntax if `syntax` is given."""
    if syntax is not None:
        image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    dcmwrite(path, image, enforce_file_format=True)
    return path


def ct_series(folder: Path, stored: NDArray[Any], *, step_mm: float = 2.0) -> Series:
    """A regular CT series, one file per plane of int16[slices, rows, columns]; UIDs fall while z rises."""
    paths = []
    for index, plane in enumerate(stored):
        image = ct_dataset(plane, number=900 - index, z_mm=index * step_mm)
        paths.append(written(image, folder / f"{index:03d}.dcm"))
    return series_of(paths)


def series_of(paths: list[Path]) -> Series:
    """The Series of these files, by their SOP Instance UIDs (made up where a file has none)."""
    references = []
    for index, path in enumerate(sorted(paths)):
        header = dcmread(path, force=True, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
        uid = str(header.get("SOPInstanceUID") or f"9.{index:04d}")
        references.append(ImageReference(str(path), f"digest-{index}", uid))
    return Series(tuple(sorted(references, key=lambda reference: reference.sop_instance_uid)))


def real_series(data: Path, name: str, folder: Path) -> Series:
    """A series of ../shared/data/dicom: a folder, or a zip (unpacked into `folder`)."""
    source = data / "dicom" / name
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
        source = folder
    return series_of([path for path in source.rglob("*") if path.is_file()])


def decoded(series: Series, unit: str = "HU") -> Images:
    images = DecodeImages.from_parameters({"unit": unit}).apply([series], CONTEXT)
    assert isinstance(images, Images)
    return images


def stacked(images: Images, **parameters: str) -> Volume:
    volume = Stack.from_parameters(parameters).apply([images], CONTEXT)
    assert isinstance(volume, Volume)
    return volume


def decoded_image(
    index: int,
    position: tuple[float, float, float],
    pixels: NDArray[np.float32] | None = None,
    *,
    orientation: tuple[float, ...] = AXIAL,
    spacing: tuple[float, float] = (0.5, 0.75),
    frame_of_reference_uid: str = "1.2.3",
) -> DecodedImage:
    a, b, c, d, e, f = orientation
    return DecodedImage(
        image_index=index,
        pixels=np.full((4, 6), index, np.float32) if pixels is None else pixels,
        unit="[hnsf'U]",
        image_position_patient=position,
        image_orientation_patient=(a, b, c, d, e, f),
        pixel_spacing=spacing,
        frame_of_reference_uid=frame_of_reference_uid,
    )

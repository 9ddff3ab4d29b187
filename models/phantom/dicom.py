"""The phantom as a CT Image series: an obviously made-up patient, UIDs that follow from the spec alone."""

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.phantom.generate import scan
from models.phantom.spec import Phantom, PhantomSpec
from models.values import ImageReference, Series

if TYPE_CHECKING:  # pydicom takes 0.4 s to import; only writing needs it
    from pydicom.dataset import FileDataset

STUDY_DATE, STUDY_TIME = "20240101", "120000"
INTERCEPT_HU = -1024
"""Rescale Intercept; the slope is 1, so stored values are 0 to 4095."""
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_UID_MARK, _Z_MARK, _NUMBER_MARK = "2.25." + "7" * 39, "-77777.777777", "77777777"
"""Stand for what differs between images: as long as what replaces them, found nowhere else."""
_CONVOLUTION_KERNELS = {"smooth": "PHANTOM-SMOOTH", "standard": "PHANTOM-STANDARD", "sharp": "PHANTOM-SHARP"}


def write_dicom(
    phantom: Phantom, folder: Path, *, salt: str = "", transfer_syntax: str = _EXPLICIT_LITTLE_ENDIAN
) -> list[Path]:
    """Write one CT Image per slice into `folder` (made if absent), named 0001.dcm and on, lowest slice first.

    Args:
        salt: makes the UIDs of the study, series and images others; load tests send one phantom many times.
        transfer_syntax: any that is not encapsulated and that pydicom writes.

    Nothing is synced to disk. Equal arguments give equal bytes.
    """
    writer = SeriesWriter(phantom.spec, folder, salt=salt, transfer_syntax=transfer_syntax)
    for index, hu in enumerate(phantom.volume.voxels):
        writer.write(index, hu)
    return [Path(image.path) for image in writer.images]


def phantom_series(spec: PhantomSpec, folder: Path, *, salt: str = "") -> Series:
    """Write the files that `write_dicom` would, holding one slice of HU at a time; give the Series."""
    writer = SeriesWriter(spec, folder, salt=salt)
    for index, (hu, _) in enumerate(scan(spec)):
        writer.write(index, hu)
    return writer.series()


def derived_uid(spec: PhantomSpec, what: str, salt: str = "") -> str:
    """The UID of a part of the phantom: 2.25 and 128 bits of SHA-256 over spec, salt and part (PS3.5 B.2).

    Always 44 characters: the hash is taken again until its number has 39 digits (two in three have).
    """
    digest = hashlib.sha256(json.dumps([spec.as_json(), salt, what], sort_keys=True).encode()).digest()
    while (number := int.from_bytes(digest[:16], "big")) < 10**38:
        digest = hashlib.sha256(digest).digest()
    return f"2.25.{number}"


class SeriesWriter:
    """Writes slices of one scan as files, in any order; remembers what was written."""

    def __init__(
        self,
        spec: PhantomSpec,
        folder: Path,
        *,
        salt: str = "",
        transfer_syntax: str = _EXPLICIT_LITTLE_ENDIAN,
    ) -> None:
        self._spec, self._folder, self._salt = spec, folder, salt
        self._z_mm = spec.axis_mm(0)
        self._header, endian = _header(spec, salt, transfer_syntax)
        self._stored = np.dtype(f"{endian}i2")
        self.images: list[ImageReference] = []
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, index: int, hu: NDArray[np.float32]) -> None:
        """Write slice `index` (0 is the lowest); hu: float32[rows, columns], whole numbers."""
        uid = derived_uid(self._spec, f"image {index}", self._salt)
        data = self._encode(index, uid, hu)
        path = self._folder / f"{index + 1:04d}.dcm"
        path.write_bytes(data)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}:{len(data)}"
        self.images.append(ImageReference(str(path), digest, uid))

    def series(self) -> Series:
        """What was written so far."""
        return Series(tuple(sorted(self.images, key=lambda image: image.sop_instance_uid)))

    def _encode(self, index: int, uid: str, hu: NDArray[np.float32]) -> bytes:
        z = f"{self._z_mm[index]:<{len(_Z_MARK)}.6f}"
        header = (
            self._header.replace(_UID_MARK.encode(), uid.encode())
            .replace(_Z_MARK.encode(), z.encode())
            .replace(_NUMBER_MARK.encode(), f"{index + 1:<{len(_NUMBER_MARK)}}".encode())
        )
        return header + (hu - np.float32(INTERCEPT_HU)).astype(self._stored).tobytes()


def _header(spec: PhantomSpec, salt: str, transfer_syntax: str) -> tuple[bytes, str]:
    """A whole file up to the pixels, with marks where images differ; and the byte order of the pixels.

    Encoding all elements again for each image would take longer (1.5 ms) than drawing its anatomy.
    """
    ds = _template(spec, salt, transfer_syntax)
    pixels = bytes(2 * spec.rows * spec.columns)
    ds.PixelData = pixels
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    header = buffer.getvalue()[: -len(pixels)]
    return header, "<" if ds.file_meta.TransferSyntaxUID.is_little_endian else ">"


def _template(spec: PhantomSpec, salt: str, transfer_syntax: str) -> "FileDataset":
    """Everything that all images of the series share (PS3.3 A.3, CT Image IOD)."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID("2.25.80302813137786398554742050926734630921")
    meta.ImplementationVersionName = "LIGHTBOX PHANTOM"
    ds = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=meta.TransferSyntaxUID.is_implicit_VR,
        is_little_endian=meta.TransferSyntaxUID.is_little_endian,
    )
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(_UID_MARK)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = STUDY_DATE
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = STUDY_TIME
    ds.AccessionNumber = ""
    ds.Modality = "CT"
    ds.Manufacturer = "Lightbox"
    ds.ManufacturerModelName = "Chest phantom"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Made-up chest CT"
    ds.SeriesDescription = f"Phantom {spec.kernel} {spec.thickness_mm:g} mm"
    ds.PatientName = "Phantom^Chest"
    ds.PatientID = f"PHANTOM-{spec.seed}"
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.BodyPartExamined = "CHEST"
    ds.SliceThickness = f"{spec.thickness_mm:g}"
    ds.KVP = "120"
    ds.PatientPosition = "HFS"
    ds.ConvolutionKernel = _CONVOLUTION_KERNELS[spec.kernel]
    ds.StudyInstanceUID = derived_uid(spec, "study", salt)
    ds.SeriesInstanceUID = derived_uid(spec, "series", salt)
    ds.FrameOfReferenceUID = derived_uid(spec, "frame of reference", salt)
    ds.PositionReferenceIndicator = ""
    ds.StudyID = "1"
    ds.SeriesNumber = 1
    ds.AcquisitionNumber = 1
    ds.InstanceNumber = _NUMBER_MARK
    ds.ImagePositionPatient = [*(f"{spec.axis_mm(axis)[0]:.6f}" for axis in (2, 1)), _Z_MARK]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceLocation = _Z_MARK
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = spec.rows, spec.columns
    ds.PixelSpacing = [f"{mm:.10g}" for mm in spec.spacing_mm[1:]]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(INTERCEPT_HU), "1", "HU"
    return ds

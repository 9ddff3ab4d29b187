"""A label map becomes a DICOM SEG that others read as it was meant, with the same bytes every time."""

import datetime as datetimes
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from models.dicom_header import quiet
from models.errors import InputRefused, KernelError, PipelineError
from models.operators.base import JobContext, KernelContext
from models.operators.encode_seg import NOTHING_FOUND, EncodeSeg
from models.pipeline import SegmentCode
from models.values import (
    Kind,
    LabelMap,
    Measurement,
    Measurements,
    Segmentation,
    Series,
    Value,
    ValueType,
    Volume,
)
from tests.conftest import program
from tests.dicom_cases import (
    NoResources,
    ct_dataset,
    ct_series,
    decoded,
    real_series,
    series_of,
    stacked,
    written,
)

Encoding = Literal["BINARY", "LABELMAP"]
ANATOMY = ("123037004", "SCT", "Anatomical Structure")
SEGMENTS = (
    SegmentCode(name="air", category=ANATOMY, type=("39607008", "SCT", "Lung"), color=(0, 170, 255)),
    SegmentCode(name="bone", category=ANATOMY, type=("272673000", "SCT", "Bone")),
)
JOB = JobContext(
    tenant="local",
    plan="sha256:" + "a" * 64 + ":1234",
    binding="sha256:" + "b" * 64 + ":99",
    pipeline="ct-lungs",
    pipeline_version="1.2",
    created=datetime(2026, 11, 20, 22, 11, 12, 345678, tzinfo=UTC),
    device="cpu",
    software_version="0.1.0",
)
ENCODE = EncodeSeg(output="lungs", description="Left and right lung", segments=SEGMENTS)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """4 slices of 16 x 24; air around a block of bone in slices 1 and 2."""
    stored = np.full((4, 16, 24), 1024, np.int16)
    stored[:, :5] = 0
    stored[1:3, 8:12, 8:16] = 2000
    return ct_series(tmp_path, stored)


def labelled(series: Series, *, nothing: bool = False) -> LabelMap:
    volume = stacked(decoded(series))
    labels = np.zeros(volume.shape, np.uint8)
    if not nothing:
        labels[volume.voxels < -400] = 1
        labels[volume.voxels > 300] = 2
    return LabelMap(
        labels=labels,
        affine=volume.affine,
        segments=("air", "bone"),
        source=volume.source,
        notes=volume.notes,
    )


def encoded(
    series: Series, label_map: LabelMap, *more: Value, operator: EncodeSeg = ENCODE, job: JobContext = JOB
) -> Segmentation:
    context = KernelContext(resources=NoResources(), job=job, series=series)
    result = operator.apply([label_map, *more], context)
    assert isinstance(result, Segmentation)
    return result


def object_of(result: Segmentation) -> Dataset:
    return dcmread(BytesIO(result.data))


def masks(result: Segmentation, source: Volume | LabelMap) -> NDArray[np.uint8]:
    """The label map that highdicom reads, in stacking order of the source, checked to lie on its planes."""
    import highdicom

    assert source.source is not None
    with quiet():
        volume = highdicom.seg.segread(BytesIO(result.data)).get_volume(combine_segments=True)
    labels = np.zeros((len(source.source.positions_mm), *volume.spatial_shape[1:]), np.uint8)
    origins = volume.affine[:3, 3] + np.arange(volume.spatial_shape[0])[:, None] * volume.affine[:3, 0]
    np.testing.assert_allclose(volume.affine[:3, 1:3], source.affine[:3, 1:3], atol=1e-6)
    for origin, plane in zip(origins, volume.array, strict=True):
        apart = np.linalg.norm(source.source.positions_mm - origin, axis=1)
        assert apart.min() < 1e-6
        labels[int(apart.argmin())] = plane
    return labels


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_what_is_written_is_read_back_at_its_place(encoding: Encoding, series: Series) -> None:
    label_map = labelled(series)
    result = encoded(series, label_map, operator=replace(ENCODE, encoding=encoding))
    np.testing.assert_array_equal(masks(result, label_map), label_map.labels)
    written_object = object_of(result)
    assert written_object.SegmentationType == encoding
    assert written_object.SOPInstanceUID == result.sop_instance_uid
    assert written_object.SeriesInstanceUID == result.series_instance_uid
    assert written_object.file_meta.MediaStorageSOPInstanceUID == result.sop_instance_uid
    assert result.notes == ()


def test_empty_frames_are_left_out(series: Series) -> None:
    assert object_of(encoded(series, labelled(series))).NumberOfFrames == 4 + 2


def test_nothing_found_is_a_result_with_every_frame(series: Series) -> None:
    label_map = labelled(series, nothing=True)
    result = encoded(series, label_map)
    assert result.notes == (NOTHING_FOUND,)
    written_object = object_of(result)
    assert written_object.NumberOfFrames == 8
    assert len(written_object.SegmentSequence) == 2
    assert not any(written_object.PixelData)


def test_a_segment_that_is_absent_is_said(series: Series) -> None:
    label_map = labelled(series)
    label_map.labels[label_map.labels == 2] = 0
    assert encoded(series, label_map).notes == ("Segment 'bone' was not found.",)


def test_every_source_image_is_referenced_and_every_frame_names_its_own(series: Series) -> None:
    label_map = labelled(series)
    assert label_map.source is not None
    result = object_of(encoded(series, label_map))
    instances = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {i.ReferencedSOPInstanceUID for i in instances} == {i.sop_instance_uid for i in series.images}
    assert {i.ReferencedSOPClassUID for i in instances} == {"1.2.840.10008.5.1.4.1.1.2"}
    places = {
        series.images[index].sop_instance_uid: position
        for index, position in zip(label_map.source.image_index, label_map.source.positions_mm, strict=True)
    }
    for frame in result.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_array_equal(position, places[source.ReferencedSOPInstanceUID])


def test_patient_and_study_are_the_sources(series: Series) -> None:
    result = object_of(encoded(series, labelled(series)))
    source = dcmread(series.images[0].path)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert result[keyword].value == source[keyword].value
    for keyword in ("PatientBirthDate", "StudyDate", "AccessionNumber", "ReferringPhysicianName"):
        assert result[keyword].is_empty
    assert result.Modality == "SEG"
    assert result.SeriesInstanceUID != source.SeriesInstanceUID
    assert result.SeriesNumber // 1000 == 7


def test_segments_say_what_they_are(series: Series) -> None:
    measured = Measurements(
        (
            Measurement("air", "volume", 1234.5678, "mL"),
            Measurement("air", "mean", None, "[hnsf'U]"),
            Measurement("bone", "volume", 2.0, "mL"),
        )
    )
    air, bone = object_of(encoded(series, labelled(series), measured)).SegmentSequence
    assert air.SegmentLabel == "air"
    assert air.SegmentedPropertyTypeCodeSequence[0].CodeValue == "39607008"
    assert air.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert air.SegmentDescription == "volume: 1234.57 mL; mean: none. Research use only, not for diagnosis."
    assert bone.SegmentDescription == "volume: 2 mL. Research use only, not for diagnosis."
    assert len(air.RecommendedDisplayCIELabValue) == 3
    assert air.RecommendedDisplayCIELabValue != bone.RecommendedDisplayCIELabValue


def test_what_made_it_is_in_the_object(series: Series) -> None:
    result = object_of(encoded(series, labelled(series)))
    algorithm = result.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ct-lungs", "1.2")
    for digest in (JOB.plan, JOB.binding):
        assert digest in algorithm.AlgorithmParameters
        assert digest in result.ContributingEquipmentSequence[0].ContributionDescription
    assert result.Manufacturer == "Lightbox"
    assert result.SoftwareVersions == "0.1.0"
    assert result.SeriesDescription == "Left and right lung (research use only)"
    assert result.ContentLabel == "LUNGS"


def test_research_use_is_not_said_of_what_is_more(series: Series) -> None:
    result = object_of(encoded(series, labelled(series), operator=replace(ENCODE, research_use_only=False)))
    assert "esearch" not in result.SeriesDescription + result.SegmentSequence[0].SegmentDescription


def test_a_long_description_keeps_its_warning(series: Series) -> None:
    result = object_of(encoded(series, labelled(series), operator=replace(ENCODE, description="Größe " * 20)))
    assert len(result.SeriesDescription) <= 64
    assert result.SeriesDescription.endswith("(research use only)")


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
def test_a_retry_at_a_later_time_gives_equal_bytes(
    encoding: Encoding, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = replace(ENCODE, encoding=encoding)
    label_map = labelled(series)
    first = encoded(series, label_map, operator=operator)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2031, 1, 1, 3, 4, 5, 678, tzinfo=tz)

    clock = SimpleNamespace(datetime=Later, date=datetimes.date, time=datetimes.time)
    monkeypatch.setattr("highdicom.base.datetime", clock)
    monkeypatch.setattr("highdicom.base_content.datetime", clock)
    again = encoded(series, label_map, operator=operator)
    assert again.data == first.data


def test_every_date_and_time_is_the_jobs(series: Series) -> None:
    result = object_of(encoded(series, labelled(series)))
    for prefix in ("InstanceCreation", "Series", "Content"):
        assert result[f"{prefix}Date"].value == "20261120"
        assert result[f"{prefix}Time"].value == "221112.345678"
    for item in result.ContributingEquipmentSequence:
        assert item.ContributionDateTime == "20261120221112.345678+0000"


def test_times_are_in_the_time_zone_that_the_source_names(tmp_path: Path) -> None:
    paths = []
    for index in range(2):
        image = ct_dataset(number=index, z_mm=float(index))
        image.TimezoneOffsetFromUTC = "+0530"
        paths.append(written(image, tmp_path / f"{index}.dcm"))
    series = series_of(paths)
    result = object_of(encoded(series, labelled(series)))
    assert (result.ContentDate, result.ContentTime) == ("20261121", "034112.345678")
    assert result.TimezoneOffsetFromUTC == "+0530"


def test_whatever_makes_a_result_another_one_gives_other_uids(series: Series) -> None:
    label_map = labelled(series)
    results = [
        encoded(series, label_map),
        encoded(series, label_map, job=replace(JOB, tenant="x")),
        encoded(series, label_map, job=replace(JOB, plan="x")),
        encoded(series, label_map, job=replace(JOB, binding="x")),
        encoded(series, label_map, operator=replace(ENCODE, output="other")),
        encoded(series, label_map, operator=replace(ENCODE, encoding="LABELMAP")),
    ]
    for uids in zip(*((r.sop_instance_uid, r.series_instance_uid) for r in results), strict=True):
        assert len(set(uids)) == len(results)
        assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_images_in_different_frames_of_reference_take_that_of_the_first_slice(tmp_path: Path) -> None:
    paths = []
    for index in range(3):
        image = ct_dataset(number=9 - index, z_mm=float(index))
        image.FrameOfReferenceUID = f"1.2.826.0.1.3680043.8.498.77.{index}"
        paths.append(written(image, tmp_path / f"{index}.dcm"))
    series = series_of(paths)
    result = encoded(series, labelled(series))
    assert object_of(result).FrameOfReferenceUID == "1.2.826.0.1.3680043.8.498.77.0"


def test_a_source_with_poor_and_bad_values_is_good_enough(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = []
    for index in range(2):
        image = ct_dataset(number=index, z_mm=float(index))
        with quiet():
            image.PatientSex, image.PatientBirthDate = "unknown", "1970"
            image.PatientName = "Jane" * 20
            image.PatientWeight = None
            image.SpecificCharacterSet = ""
            del image.SliceThickness, image.PatientID, image.FrameOfReferenceUID
            paths.append(written(image, tmp_path / f"{index}.dcm"))
    series = series_of(paths)
    result = encoded(series, labelled(series))
    with quiet():
        written_object = object_of(result)
        assert written_object.PatientSex == "unknown"
        assert str(written_object.PatientName) == "Jane" * 20
    assert written_object.FrameOfReferenceUID.startswith("2.25.")
    assert "Jane" not in caplog.text


def test_a_source_without_a_study_is_refused(tmp_path: Path) -> None:
    paths = []
    for index in range(2):
        image = ct_dataset(number=index, z_mm=float(index))
        image.StudyInstanceUID = ""
        paths.append(written(image, tmp_path / f"{index}.dcm"))
    series = series_of(paths)
    with pytest.raises(InputRefused, match=r"Study Instance UID \(0020,000D\) is empty") as caught:
        encoded(series, labelled(series))
    assert caught.value.reason == "uid-missing"


def test_a_label_map_that_is_not_as_announced_is_our_error(series: Series) -> None:
    label_map = labelled(series)
    with pytest.raises(KernelError, match="source images' planes"):
        encoded(series, replace(label_map, source=None))
    with pytest.raises(KernelError, match="has segments"):
        encoded(series, replace(label_map, segments=("air",)))
    with pytest.raises(KernelError, match="label 9"):
        encoded(series, replace(label_map, labels=np.full_like(label_map.labels, 9)))


def test_only_a_label_map_on_the_source_grid_fits() -> None:
    on_source = ValueType(kind=Kind.LABEL_MAP, on_source_grid=True)
    measurements = ValueType(kind=Kind.MEASUREMENTS)
    assert ENCODE.infer([on_source]) == ENCODE.infer([on_source, measurements])
    assert ENCODE.infer([on_source]).kind is Kind.SEGMENTATION
    with pytest.raises(PipelineError, match="restore"):
        ENCODE.infer([ValueType(kind=Kind.LABEL_MAP)])


def test_parameters_come_from_plain_values() -> None:
    plain = {
        "output": "lungs",
        "description": "Left and right lung",
        "segments": [
            {"name": s.name, "category": list(s.category), "type": list(s.type), "color": list(s.color)}
            for s in SEGMENTS
        ],
        "encoding": "BINARY",
        "research_use_only": True,
    }
    assert EncodeSeg.from_parameters(plain) == ENCODE


def errors_of(result: Segmentation, folder: Path) -> list[str]:
    """What dciodvfy calls an error."""
    path = folder / "result.dcm"
    path.write_bytes(result.data)
    done = subprocess.run(
        [program("dciodvfy", "dicom3tools"), str(path)], capture_output=True, text=True, check=False
    )
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


@pytest.mark.parametrize(
    "name",
    ["seg-ct-liver/ct", "ct-chest-philips.zip", "ct-head-phantom-philips.zip", "ct-abdomen-siemens-j2k"],
)
def test_real_series_give_valid_objects(name: str, shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    series = real_series(shared_data, name, tmp_path / "source")
    if "abdomen" in name:
        series = _filled(series, tmp_path / "source")
    for nothing in (False, True):
        label_map = labelled(series, nothing=nothing)
        result = encoded(series, label_map)
        assert errors_of(result, tmp_path) == []
        np.testing.assert_array_equal(masks(result, label_map), label_map.labels)


def _filled(series: Series, folder: Path) -> Series:
    """The abdomen with the UIDs that its data sets lack."""
    paths = []
    for index, reference in enumerate(series.images):
        image = dcmread(reference.path)
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.0.1.5", "1.2.826.0.1.6"
        paths.append(written(image, folder / f"{index}.dcm"))
    return series_of(paths)

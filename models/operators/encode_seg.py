"""Write a label map as a DICOM Segmentation object, the same bytes every time the same job asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, ClassVar, Literal

from models import dicom_header as tags
from models.dicom_header import Header, quiet
from models.dicom_provenance import (
    MANUFACTURER,
    ascii_text,
    contribution,
    dated,
    digest_word,
    provenance,
    segment_text,
)
from models.dicom_source import Source, copy_to, read_source
from models.dicom_uids import ResultUids, result_uids
from models.errors import KernelError, PipelineError
from models.operators.base import JobContext, KernelContext, Operator
from models.operators.edges import expect, value_of
from models.pipeline import SegmentCode
from models.values import Kind, LabelMap, Measurements, Segmentation, Value, ValueType

if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation as SegmentationObject
    from highdicom.seg import SegmentDescription

EXPLICIT_VR_LITTLE_ENDIAN, RLE_LOSSLESS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
NOTHING_FOUND = "Nothing was found: every frame of the result is empty."


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSeg(Operator):
    """LabelMap on the source's planes [, Measurements] -> Segmentation (a Part 10 file).

    Frames without a segment are left out; where nothing at all was found, every frame is there and empty.
    UIDs follow from (tenant, plan, binding, source instances, output, encoding), dates and times from the
    job, so a retry gives equal bytes. Measurements are told in the Segment Descriptions.

    output, description: what the result is called, for machines and (LO, 64 characters) for people.
    segments: what labels 1, 2, ... mean, in the order of the label map.
    encoding: BINARY, uncompressed, which every PACS takes; or LABELMAP (Supplement 243), RLE compressed.
    research_use_only: said in Series Description and in every Segment Description.
    """

    name: ClassVar[str] = "encode_seg"
    holds_gil: ClassVar[bool] = True
    per_job: ClassVar[bool] = True
    imports: ClassVar[tuple[str, ...]] = ("highdicom.seg", "highdicom.color", "pydicom.sr.codedict")
    output: str
    description: str
    segments: tuple[SegmentCode, ...]
    encoding: Literal["BINARY", "LABELMAP"] = "BINARY"
    research_use_only: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.segments) <= 255:
            raise ValueError("segments must be 1 to 255")

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        expect(inputs, Kind.LABEL_MAP, Kind.MEASUREMENTS, optional=1)
        if not inputs[0].on_source_grid:
            raise PipelineError("needs a label map on the source grid; put a `restore` before it", key="of")
        return ValueType(kind=Kind.SEGMENTATION)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        label_map = value_of(inputs[0], LabelMap)
        measurements = value_of(inputs[1], Measurements) if len(inputs) > 1 else Measurements(())
        job, series = context.job, context.series
        if job is None or series is None:
            raise KernelError("encode_seg needs to know its job and its series")
        if label_map.source is None:
            raise KernelError("the label map does not lie on the source images' planes")
        missing = self._check(label_map)
        sources = (f"{image.sop_instance_uid} {image.digest}" for image in series.images)
        uids = result_uids(job, sources, self.output, self.encoding)
        with quiet():
            source = read_source(series, label_map.source)
            result = self._object(label_map, self._segment_descriptions(measurements, job), job, source, uids)
            copy_to(result, source.first)
            for item in (*result.DimensionIndexSequence, *result.DimensionOrganizationSequence):
                item.DimensionOrganizationUID = uids.dimension_organization_uid
            dated(result, job.created)
            data = _file(result)
        return Segmentation(
            data=data,
            sop_instance_uid=uids.sop_instance_uid,
            series_instance_uid=uids.series_instance_uid,
            notes=missing,
        )

    def _check(self, label_map: LabelMap) -> tuple[str, ...]:
        """Notes on segments that were not found. Raises: KernelError if the label map is not as announced."""
        names = tuple(segment.name for segment in self.segments)
        if label_map.segments != names:
            raise KernelError(f"the label map has segments {label_map.segments}, the output {names}")
        highest = int(label_map.labels.max())
        if highest > len(names):
            raise KernelError(f"the label map holds label {highest}, but has {len(names)} segments")
        if highest == 0:
            return (NOTHING_FOUND,)
        return tuple(
            f"Segment '{name}' was not found."
            for label, name in enumerate(names, start=1)
            if not any((plane == label).any() for plane in label_map.labels)
        )

    def _object(
        self,
        label_map: LabelMap,
        segment_descriptions: list["SegmentDescription"],
        job: JobContext,
        source: Source,
        uids: ResultUids,
    ) -> "SegmentationObject":
        import highdicom  # 1.4 s and 194 MB, so only here

        description = ascii_text(self.description, 64)
        suffix = " (research use only)" if self.research_use_only else ""
        return highdicom.seg.Segmentation(
            source_images=source.images,
            pixel_array=label_map.labels,
            segmentation_type=self.encoding,
            segment_descriptions=segment_descriptions,
            series_instance_uid=uids.series_instance_uid,
            series_number=_series_number(source.first, uids),
            sop_instance_uid=uids.sop_instance_uid,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=ascii_text(job.pipeline, 64),
            software_versions=ascii_text(job.software_version, 64),
            device_serial_number=digest_word(job.binding),
            content_label=_code_string(self.output),
            content_description=description,
            series_description=description[: 64 - len(suffix)] + suffix,
            transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN if self.encoding == "BINARY" else RLE_LOSSLESS,
            omit_empty_frames=True,
            contributing_equipment=[contribution(job)],
        )

    def _segment_descriptions(
        self, measurements: Measurements, job: JobContext
    ) -> list["SegmentDescription"]:
        from highdicom.color import CIELabColor
        from highdicom.seg import SegmentDescription
        from pydicom.sr.coding import Code

        algorithm = _algorithm(job)
        descriptions = []
        for number, segment in enumerate(self.segments, start=1):
            description = SegmentDescription(
                segment_number=number,
                segment_label=ascii_text(segment.name, 64),
                segmented_property_category=Code(*segment.category),
                segmented_property_type=Code(*segment.type),
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
                display_color=CIELabColor.from_rgb(*segment.color),
            )
            description.SegmentDescription = segment_text(
                segment.name, measurements, research_use_only=self.research_use_only
            )
            descriptions.append(description)
        return descriptions


def _algorithm(job: JobContext) -> "AlgorithmIdentificationSequence":
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    return AlgorithmIdentificationSequence(
        name=ascii_text(job.pipeline, 64),
        family=codes.DCM.ArtificialIntelligence,
        version=ascii_text(job.pipeline_version, 64),
        source=MANUFACTURER,
        parameters=provenance(job),
    )


def _file(result: "SegmentationObject") -> bytes:
    from pydicom import dcmwrite

    buffer = BytesIO()
    dcmwrite(buffer, result, enforce_file_format=True)
    return buffer.getvalue()


def _series_number(first: Header, uids: ResultUids) -> int:
    """After the source's in a list sorted by number, and different for the results of one source."""
    number = first.number(tags.SERIES_NUMBER) if first.text(tags.SERIES_NUMBER).isdecimal() else None
    return min(int(number or 0), 9999) * 1000 + 100 + int(uids.series_instance_uid[-6:]) % 900


def _code_string(name: str) -> str:
    """`name` as a CS: up to 16 capital letters, digits, spaces and underscores."""
    return "".join(letter if letter.isalnum() else "_" for letter in ascii_text(name, 16).upper())

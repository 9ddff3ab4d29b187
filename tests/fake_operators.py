"""Small operators for tests of the planner: the shapes of the real ones, with arithmetic for kernels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from models.errors import InputRefused, PipelineError
from models.operators.base import Granularity, KernelContext, Operator
from models.values import (
    HU,
    DecodedImage,
    Images,
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


def wants(inputs: Sequence[ValueType], *kinds: Kind) -> None:
    if tuple(value.kind for value in inputs) != kinds:
        raise PipelineError(f"reads {', '.join(kinds)}, not {', '.join(map(str, inputs))}", key="of")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeDecode(Operator):
    name: ClassVar[str] = "decode"
    granularity: ClassVar[Granularity] = Granularity.IMAGE
    holds_gil: ClassVar[bool] = True

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        wants(inputs, Kind.SERIES)
        return ValueType(kind=Kind.IMAGES, unit=HU)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        (series,) = inputs
        assert isinstance(series, Series)
        return Images(
            tuple(
                DecodedImage(
                    image_index=index,
                    pixels=np.full((4, 4), index, np.float32),
                    unit=HU,
                    image_position_patient=(0.0, 0.0, float(index)),
                    image_orientation_patient=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                    pixel_spacing=(1.0, 1.0),
                    frame_of_reference_uid="1.2",
                )
                for index, _ in enumerate(series.images)
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeStack(Operator):
    name: ClassVar[str] = "stack"

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        wants(inputs, Kind.IMAGES)
        return ValueType(kind=Kind.VOLUME, unit=inputs[0].unit, on_source_grid=True)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        images = [image for part in inputs if isinstance(part, Images) for image in part.images]
        if len(images) < 2:
            raise InputRefused("too-few-images", "a volume needs two images")
        return Volume(np.stack([image.pixels for image in images]), np.eye(4), HU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise(Operator):
    """Voxel for voxel, so the grid stays."""

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        wants(inputs, Kind.VOLUME)
        return inputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAdd(Pointwise):
    name: ClassVar[str] = "add"
    amount: float

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        (volume,) = inputs
        assert isinstance(volume, Volume)
        return replace(volume, voxels=volume.voxels + np.float32(self.amount))


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeWeighted(Pointwise):
    """Adds the first number of a stored file."""

    name: ClassVar[str] = "weighted"
    file_parameters: ClassVar[tuple[str, ...]] = ("weights",)
    weights: str

    def blobs(self) -> tuple[str, ...]:
        return (self.weights,)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        (volume,) = inputs
        assert isinstance(volume, Volume)
        amount = next(iter(context.resources.parameters(self.weights).values()))
        return replace(volume, voxels=volume.voxels + amount.ravel()[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeThreshold(Operator):
    name: ClassVar[str] = "threshold"
    above: float
    unit: str = HU
    label: str = "thing"
    on_grid: bool = True

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        wants(inputs, Kind.VOLUME)
        if inputs[0].unit != self.unit:
            raise PipelineError(f"is {self.unit} but the volume is in {inputs[0].unit}", key="unit")
        grid = inputs[0].on_source_grid and self.on_grid
        return ValueType(kind=Kind.LABEL_MAP, on_source_grid=grid, segments=(self.label,))

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        (volume,) = inputs
        assert isinstance(volume, Volume)
        labels = (volume.voxels > self.above).astype(np.uint8)
        return LabelMap(labels, volume.affine, (self.label,))


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeMeasure(Operator):
    name: ClassVar[str] = "measure"

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        wants(inputs, Kind.LABEL_MAP, Kind.VOLUME)
        return ValueType(kind=Kind.MEASUREMENTS)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        mask, _ = inputs
        assert isinstance(mask, LabelMap)
        return Measurements((Measurement(mask.segments[0], "voxels", float(mask.labels.sum()), "1"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeEncode(Operator):
    name: ClassVar[str] = "encode_seg"
    holds_gil: ClassVar[bool] = True
    per_job: ClassVar[bool] = True
    output: str
    description: str = ""
    segments: tuple[Any, ...] = ()
    encoding: str = "BINARY"
    research_use_only: bool = True

    def infer(self, inputs: Sequence[ValueType]) -> ValueType:
        wants(inputs[:1], Kind.LABEL_MAP)
        return ValueType(kind=Kind.SEGMENTATION)

    def apply(self, inputs: Sequence[Value], context: KernelContext) -> Value:
        mask = inputs[0]
        assert isinstance(mask, LabelMap)
        assert context.job is not None
        assert context.series is not None
        return Segmentation(mask.labels.tobytes() + context.job.plan.encode(), "1.2.3", "1.2")


FAKES: dict[str, type[Operator]] = {
    fake.name: fake
    for fake in (
        FakeDecode,
        FakeStack,
        FakeAdd,
        FakeWeighted,
        FakeThreshold,
        FakeMeasure,
        FakeEncode,
    )
}

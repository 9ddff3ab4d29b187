"""The pipeline language in Python: steps, outputs, input contract and golden cases as frozen values.

`check` is what makes a pipeline sound: every name is known and used, types fit, masks lie on the source grid.
Its errors carry a dotted key (`steps.volume.orientation`) so that a file's reader can find the line.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias

from models.contract import Contract
from models.errors import PipelineError
from models.golden import GoldenCase
from models.operators.base import Operator
from models.values import Kind, ValueType

SOURCE = "series"
"""The step nobody writes: the series that is sent."""

SOURCE_TYPE = ValueType(kind=Kind.SERIES)

Code: TypeAlias = tuple[str, str, str]
"""A coded concept: value, scheme, meaning (DICOM PS3.3 section 8)."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What a pipeline, a step or an output may be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCode:
    """What a label means. color: recommended display colour, sRGB 0 to 255."""

    name: str
    category: Code
    type: Code
    color: tuple[int, int, int] = (255, 214, 10)

    def __post_init__(self) -> None:
        if not all(0 <= part <= 255 for part in self.color):
            raise ValueError("color must be three numbers from 0 to 255")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One result: a label map that becomes one DICOM SEG, and what was measured (names of steps)."""

    name: str
    description: str
    mask: str
    segments: tuple[SegmentCode, ...]
    measurements: str | None = None
    encoding: Literal["BINARY", "LABELMAP"] = "BINARY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a faster way of computing the networks must keep: on every golden case, against plain fp32.

    least_dice: of each segment; mean_dice: over all segments of all cases; volume_change: the largest change
    of a segment's volume, as a share of it.
    """

    least_dice: float = 0.99
    mean_dice: float = 0.995
    volume_change: float = 0.01

    def __post_init__(self) -> None:
        for name in ("least_dice", "mean_dice"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1")
        if self.volume_change < 0:
            raise ValueError("volume_change must not be below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An operator applied to the results of the steps named in `inputs` (or SOURCE)."""

    name: str
    operator: Operator
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What is computed of one series. File parameters of operators hold absolute paths until compiled."""

    name: str
    version: str
    title: str
    steps: tuple[Step, ...]
    outputs: tuple[Output, ...]
    contract: Contract
    description: str = ""
    research_use_only: bool = True
    golden: tuple[GoldenCase, ...] = ()
    gate: Gate = Gate()

    def step(self, name: str) -> Step:
        """Raises KeyError for a name that is no step."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


def check(pipeline: Pipeline) -> dict[str, ValueType]:
    """The type of every step, in an order in which they can be computed.

    Raises: PipelineError whose key says where.
    """
    _check_names(pipeline)
    types = infer_types(pipeline.steps)
    for output in pipeline.outputs:
        _check_output(output, types)
    _check_all_used(pipeline)
    for number, case in enumerate(pipeline.golden):
        _check_golden(case, pipeline.outputs, f"golden.{number}")
    return types


def infer_types(steps: tuple[Step, ...]) -> dict[str, ValueType]:
    """The type of every step, in an order of computation.

    Raises: PipelineError for an unknown input, a cycle or types that do not fit.
    """
    by_name = {step.name: step for step in steps}
    for step in steps:
        for name in step.inputs:
            if name not in by_name and name != SOURCE:
                known = ", ".join([SOURCE, *by_name])
                raise PipelineError(
                    f"there is no step '{name}' (known: {known})", key=f"steps.{step.name}.of"
                )
    types = {SOURCE: SOURCE_TYPE}
    for name in _in_order(by_name):
        step = by_name[name]
        try:
            types[name] = step.operator.infer([types[source] for source in step.inputs])
        except PipelineError as error:
            key = f"steps.{name}.{error.key}" if error.key else f"steps.{name}"
            raise PipelineError(error.message, key=key) from error
    del types[SOURCE]
    return types


def _in_order(steps: Mapping[str, Step]) -> tuple[str, ...]:
    """Names with every step after those it reads; steps keep the written order where that is one."""
    order: list[str] = []
    sorter = TopologicalSorter({n: [i for i in s.inputs if i != SOURCE] for n, s in steps.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        names = error.args[1]
        raise PipelineError(
            f"needs its own result: {' <- '.join(names)}", key=f"steps.{names[0]}.of"
        ) from error
    written = {name: position for position, name in enumerate(steps)}
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=written.__getitem__)
        order.extend(ready)
        sorter.done(*ready)
    return tuple(order)


def _check_names(pipeline: Pipeline) -> None:
    if not NAME.fullmatch(pipeline.name):
        raise PipelineError(_BAD_NAME.format(pipeline.name), key="pipeline")
    if not pipeline.version:
        raise PipelineError("must not be empty", key="version")
    for part, names in (
        ("steps", [step.name for step in pipeline.steps]),
        ("outputs", [output.name for output in pipeline.outputs]),
    ):
        if not names:
            raise PipelineError("there are none", key=part)
        for name in names:
            if not NAME.fullmatch(name):
                raise PipelineError(_BAD_NAME.format(name), key=f"{part}.{name}")
            if names.count(name) > 1:
                raise PipelineError("is there twice", key=f"{part}.{name}")
            if part == "steps" and name == SOURCE:
                raise PipelineError("is the name of the source; call the step otherwise", key=f"steps.{name}")


def _check_output(output: Output, types: Mapping[str, ValueType]) -> None:
    key = f"outputs.{output.name}"
    mask = _type_of(output.mask, types, f"{key}.mask")
    if mask.kind is not Kind.LABEL_MAP:
        raise PipelineError(f"'{output.mask}' is a {mask}, not a label_map", key=f"{key}.mask")
    if not mask.on_source_grid:
        raise PipelineError(
            f"'{output.mask}' is not on the source grid; put a `restore` after it", key=f"{key}.mask"
        )
    names = tuple(segment.name for segment in output.segments)
    if not names:
        raise PipelineError("there are none", key=f"{key}.segments")
    if len(set(names)) < len(names):
        raise PipelineError("two have the same name", key=f"{key}.segments")
    if mask.segments and mask.segments != names:
        raise PipelineError(
            f"are {', '.join(names)}, but '{output.mask}' gives {', '.join(mask.segments)}",
            key=f"{key}.segments",
        )
    if output.measurements is not None:
        measured = _type_of(output.measurements, types, f"{key}.measurements")
        if measured.kind is not Kind.MEASUREMENTS:
            raise PipelineError(
                f"'{output.measurements}' is a {measured}, not measurements", key=f"{key}.measurements"
            )


def _type_of(name: str, types: Mapping[str, ValueType], key: str) -> ValueType:
    if name not in types:
        raise PipelineError(f"there is no step '{name}' (known: {', '.join(types)})", key=key)
    return types[name]


def _check_all_used(pipeline: Pipeline) -> None:
    used: set[str] = set()
    waiting = [name for o in pipeline.outputs for name in (o.mask, o.measurements) if name is not None]
    while waiting:
        name = waiting.pop()
        if name not in used and name != SOURCE:
            used.add(name)
            waiting.extend(pipeline.step(name).inputs)
    for step in pipeline.steps:
        if step.name not in used:
            raise PipelineError("no output needs this step", key=f"steps.{step.name}")


def _check_golden(case: GoldenCase, outputs: tuple[Output, ...], key: str) -> None:
    by_name = {output.name: output for output in outputs}
    for expected in case.expect:
        where = f"{key}.expect.{expected.output}"
        if expected.output not in by_name:
            raise PipelineError(f"there is no output '{expected.output}'", key=where)
        output = by_name[expected.output]
        segments = {segment.name for segment in output.segments}
        for name, _ in expected.dice:
            if name not in segments:
                raise PipelineError(f"there is no segment '{name}'", key=f"{where}.dice.{name}")
        if expected.measurements and output.measurements is None:
            raise PipelineError("this output measures nothing", key=f"{where}.measurements")
        if expected.dice and case.input is not None and expected.label_map is None:
            raise PipelineError("Dice on a stored series needs a `label_map`", key=f"{where}.dice")


_BAD_NAME = "'{}' must be of a-z, 0-9, - and _, start with a letter or digit and have at most 63 characters"

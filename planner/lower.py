"""From the logical graph to a plan: adds the encoding of each output, and makes everything plain values."""

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec

from models.golden import golden_fields
from models.operators.base import Operator
from models.pipeline import Gate, Output, Pipeline
from planner.graph import Graph, GraphOutput, Work, json_parameters
from planner.plan import Node, Plan, PlannedOutput, PlannedSegment

Encoder = Callable[[Pipeline, Output], Operator]
"""Gives the operator that writes an output as DICOM SEG."""


def registered_encoder(pipeline: Pipeline, output: Output) -> Operator:
    """The bundled `encode_seg` with what the output says."""
    from models.operators.registry import OPERATORS

    return OPERATORS["encode_seg"].from_parameters(encoder_parameters(pipeline, output))


def encoder_parameters(pipeline: Pipeline, output: Output) -> dict[str, Any]:
    """What `encode_seg` is told of an output, as plain values."""
    return {
        "output": output.name,
        "description": output.description,
        "segments": [dataclasses.asdict(segment) for segment in output.segments],
        "encoding": output.encoding,
        "research_use_only": pipeline.research_use_only,
    }


def lower(graph: Graph, pipeline: Pipeline, encoder: Encoder = registered_encoder) -> Plan:
    """The plan of a rewritten graph. Encoders come last: they belong to a job and are shared with nobody."""
    encoded = [(output, _encoding(output, encoder(pipeline, output.output))) for output in graph.outputs]
    works = (*graph.nodes, *(work for _, work in encoded))
    blobs = {blob for work in works for blob in work.operator.blobs()}
    golden = tuple(golden_fields(case) for case in pipeline.golden)
    return Plan(
        pipeline=pipeline.name,
        version=pipeline.version,
        title=pipeline.title,
        research_use_only=pipeline.research_use_only,
        contract=dataclasses.asdict(pipeline.contract),
        nodes=tuple(_node(work) for work in works),
        outputs=tuple(_planned(output, work) for output, work in encoded),
        golden=golden,
        blobs=tuple(sorted(blobs | set(_golden_blobs(golden)))),
        gate=msgspec.UNSET if pipeline.gate == Gate() else dataclasses.asdict(pipeline.gate),
    )


def _encoding(output: GraphOutput, operator: Operator) -> Work:
    return Work(operator, output.works(), f"encode-{output.output.name}")


def _node(work: Work) -> Node:
    return Node(
        id=work.id,
        step=work.step,
        operator=work.operator.name,
        version=work.operator.version,
        parameters=json_parameters(work.operator),
        inputs=tuple(value.id for value in work.inputs),
    )


def _planned(graph_output: GraphOutput, encoding: Work) -> PlannedOutput:
    output = graph_output.output
    return PlannedOutput(
        name=output.name,
        description=output.description,
        mask=graph_output.mask.id,
        segmentation=encoding.id,
        measurements=graph_output.measurements.id if graph_output.measurements else None,
        segments=tuple(
            PlannedSegment(label=label, name=s.name, category=s.category, type=s.type, color=s.color)
            for label, s in enumerate(output.segments, start=1)
        ),
    )


def _golden_blobs(golden: tuple[dict[str, Any], ...]) -> list[str]:
    """Digests that golden cases name: stored series and their expected label maps."""
    named = [case.get("input") for case in golden]
    named += [expected.get("label_map") for case in golden for expected in case["expect"].values()]
    return [digest for digest in named if digest is not None]

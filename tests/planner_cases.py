"""Pipelines of fake operators, and how to compile and run them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract import Contract
from models.errors import PipelineError
from models.operators.base import JobContext, KernelContext, NetworkSession, Operator
from models.pipeline import Output, Pipeline, SegmentCode, Step
from models.values import ImageReference, Series
from object_store.opening import Store
from planner.bind import bind, without_measuring
from planner.binding import Binding
from planner.compile import compile_pipelines
from planner.live import current_binding
from planner.lower import encoder_parameters
from planner.plan import Node, Plan, PlannedOutput
from tests.fake_operators import FAKES, FakeAdd, FakeDecode, FakeEncode, FakeMeasure, FakeStack, FakeThreshold

JOB = JobContext(
    tenant="local",
    plan="plan",
    binding="binding",
    pipeline="things",
    pipeline_version="1",
    created=datetime(2024, 1, 1, tzinfo=UTC),
    device="test",
    software_version="0",
)


class NoResources:
    """For kernels that need nothing."""

    def network(self, graph: str) -> NetworkSession:
        raise KeyError(graph)

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        raise KeyError(digest)


def series(images: int = 5) -> Series:
    return Series(tuple(ImageReference(f"/p/{n}", f"d{n}", f"1.{n}") for n in range(images)))


def context(source: Series) -> KernelContext:
    return KernelContext(resources=NoResources(), job=JOB, series=source)


def things(name: str = "things", *, above: float = 1.0, steps: Sequence[Step] = ()) -> Pipeline:
    """decode, stack, add, threshold and measure; `steps` replace those of the same name."""
    default = [
        Step(name="images", operator=FakeDecode(), inputs=("series",)),
        Step(name="volume", operator=FakeStack(), inputs=("images",)),
        Step(name="lifted", operator=FakeAdd(amount=1.0), inputs=("volume",)),
        Step(name="thing", operator=FakeThreshold(above=above), inputs=("lifted",)),
        Step(name="numbers", operator=FakeMeasure(), inputs=("thing", "volume")),
    ]
    by_name = {step.name: step for step in [*default, *steps]}
    segment = SegmentCode(name="thing", category=("1", "SCT", "Thing"), type=("2", "SCT", "Dense thing"))
    return Pipeline(
        name=name,
        version="1",
        title="Things",
        contract=Contract(),
        steps=tuple(by_name.values()),
        outputs=(
            Output(
                name="thing",
                description="A thing",
                mask="thing",
                measurements="numbers",
                segments=(segment,),
            ),
        ),
    )


def fake_encoder(pipeline: Pipeline, output: Output) -> Operator:
    return FakeEncode.from_parameters(encoder_parameters(pipeline, output))


def fake_operator(node: Node) -> Operator:
    if node.operator not in FAKES:
        raise PipelineError(f"there is no operator '{node.operator}' here", key="op")
    return FAKES[node.operator].from_parameters(node.parameters)


def bare_plan(*nodes: Node, pipeline: str = "p", outputs: Sequence[PlannedOutput] = ()) -> Plan:
    """A plan of these nodes as it would be read from a store: no contract, no golden case, no blob."""
    return Plan(
        pipeline=pipeline,
        version="1",
        title="",
        research_use_only=True,
        contract={},
        nodes=nodes,
        outputs=tuple(outputs),
        golden=(),
        blobs=(),
    )


def binding_of(store: Store) -> Binding:
    """The current binding of the store, which has one."""
    current = current_binding(store)
    assert current is not None
    return current[1]


compile_fakes: Any = partial(
    compile_pipelines, costing=without_measuring, encoder=fake_encoder, operators=fake_operator
)
bind_fakes: Any = partial(bind, costing=without_measuring, operators=fake_operator)

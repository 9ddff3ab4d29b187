"""A pipeline of several networks on one backbone, from file to mask: bound together, equal to one by one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.operators.argmax import likeliest
from models.operators.base import KernelContext
from models.phantom import PhantomSpec, phantom_series
from models.pipeline import Pipeline
from models.pipeline_file import read_pipeline
from models.values import LabelMap, ProbabilityMap, Series, Value
from object_store.collect import collect_garbage
from object_store.opening import Store, open_store
from planner.bind import without_measuring
from planner.binding import Binding
from planner.compile import compile_pipelines
from planner.execute import run_plan
from planner.live import current_binding
from planner.networks.joint import JointResources
from planner.plan import Plan
from planner.references import references
from planner.resources import StoreResources
from tests.networks import encoder_decoder, unet

NETWORK = """
  {name}: {{op: network, of: scaled, graph: {name}.onnx, mode: slices, batch: 4, multiple_of: 8,
            activation: softmax, segments: [{segment}]}}
"""
PIPELINE = """
pipeline: several
version: "1"
title: Several
description: Several networks
research_use_only: true
input: {{modality: CT}}
steps:
  images: {{op: decode, of: series}}
  stacked: {{op: stack, of: images}}
  clipped: {{op: clip, of: stacked, min_hu: -1000, max_hu: 400}}
  scaled: {{op: normalise, of: clipped, offset: -1000, scale: 0.0007142857142857143}}
{steps}
outputs:
{outputs}
"""
OUTPUT = """
  {name}:
    description: one
    mask: {name}
    segments: [{{name: {segment}, category: ["1", SCT, T], type: ["2", SCT, T]}}]
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def decoders(folder: Path, count: int = 3) -> Pipeline:
    """Decoders on one encoder, each with a mask of its own."""
    steps = outputs = ""
    for number in range(count):
        model = encoder_decoder(1, 10 + number, (16, 32, 64), classes=2)
        (folder / f"net{number}.onnx").write_bytes(model.SerializeToString())
        steps += NETWORK.format(name=f"net{number}", segment=f"s{number}")
        steps += f"  found{number}: {{op: argmax, of: net{number}}}\n"
        steps += f"  mask{number}: {{op: restore, of: [found{number}, stacked]}}\n"
        outputs += OUTPUT.format(name=f"mask{number}", segment=f"s{number}")
    return written(folder, steps, outputs)


def folds(folder: Path, count: int = 3) -> Pipeline:
    """Folds, and the mask of their mean."""
    steps = ""
    for number in range(count):
        model = unet(number, (4, 8), classes=2)
        (folder / f"net{number}.onnx").write_bytes(model.SerializeToString())
        steps += NETWORK.format(name=f"net{number}", segment="s")
    steps += f"  mean: {{op: ensemble, of: [{', '.join(f'net{n}' for n in range(count))}]}}\n"
    steps += "  found: {op: argmax, of: mean}\n  mask: {op: restore, of: [found, stacked]}\n"
    return written(folder, steps, OUTPUT.format(name="mask", segment="s"))


def written(folder: Path, steps: str, outputs: str) -> Pipeline:
    path = folder / "several.yaml"
    path.write_text(PIPELINE.format(steps=steps, outputs=outputs), encoding="utf-8")
    return read_pipeline(path)


def compiled(store: Store, pipeline: Pipeline) -> tuple[Plan, Binding]:
    (found,) = compile_pipelines(store, [pipeline], costing=without_measuring)
    current = current_binding(store)
    assert current is not None
    return found.plan, current[1]


def scan(folder: Path) -> Series:
    spec = PhantomSpec(seed=3, slices=6, rows=40, columns=48, spacing_mm=(20.0, 9.0, 7.5))
    return phantom_series(spec, folder / "series")


def computed(plan: Plan, series: Series, resources: object, kind: str) -> dict[str, Value]:
    gives = [node.id for node in plan.nodes if node.operator == kind]
    steps = {node.id: node.step for node in plan.nodes}
    context = KernelContext(resources=resources, series=series)  # type: ignore[arg-type]
    return {steps[node]: value for node, value in run_plan(plan, series, context, gives).items()}


def test_decoders_on_one_encoder_are_bound_together_and_give_the_same(store: Store, tmp_path: Path) -> None:
    plan, binding = compiled(store, decoders(tmp_path))
    (joint,) = binding.joint
    assert len(joint.nodes) == len(joint.networks) == 3
    assert joint.parts is not None
    names = [stage.name for stage in binding.stages]
    assert sum("network+network+network" in name for name in names) == 1
    collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    shared = StoreResources(store.objects.root)
    bound = shared.under(binding)
    assert isinstance(bound, JointResources)
    series = scan(tmp_path)
    ours = computed(plan, series, bound, "network")
    theirs = computed(plan, series, shared, "network")
    assert ours.keys() == theirs.keys() == {"net0", "net1", "net2"}
    for name, value in ours.items():
        other = theirs[name]
        assert isinstance(value, ProbabilityMap)
        assert isinstance(other, ProbabilityMap)
        np.testing.assert_allclose(value.values, other.values, atol=1e-5)


def test_the_plan_does_not_know_what_is_bound_together(store: Store, tmp_path: Path) -> None:
    three, _ = compiled(store, decoders(tmp_path))
    with open_store(tmp_path / "other") as other:
        compiled(other, folds(tmp_path))
        again, _ = compiled(other, decoders(tmp_path))
    assert three.to_bytes() == again.to_bytes()


def test_folds_are_one_step_whose_mask_is_that_of_the_mean(store: Store, tmp_path: Path) -> None:
    plan, binding = compiled(store, folds(tmp_path))
    assert [node.operator for node in plan.nodes].count("network_ensemble") == 1
    assert "network" not in [node.operator for node in plan.nodes]
    assert len(binding.networks) == 3
    series = scan(tmp_path)
    shared = StoreResources(store.objects.root)
    (ours,) = computed(plan, series, shared.under(binding), "network_ensemble").values()
    (theirs,) = computed(plan, series, shared, "network_ensemble").values()
    assert isinstance(ours, ProbabilityMap)
    assert isinstance(theirs, ProbabilityMap)
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)
    (mask,) = computed(plan, series, shared, "restore").values()
    assert isinstance(mask, LabelMap)
    np.testing.assert_array_equal(mask.labels, likeliest(theirs.values, 0.5))
    assert mask.labels.any()

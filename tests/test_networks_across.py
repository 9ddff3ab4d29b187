"""A batch whose items belong to different networks gives what one run for each item gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.errors import KernelError
from planner.networks.building.build import put_build
from planner.networks.building.editing import shapes_of
from planner.networks.building.lift import lifted_structure
from planner.networks.building.rows import items_apart
from planner.networks.keeping import NetworkReader
from planner.networks.precision.candidates import precision_of
from planner.networks.precision.layers import Level
from planner.networks.precision.mixtures import Mixtures
from planner.networks.precision.trial import NO_PRECISION_HINTS
from planner.networks.reading.opening import open_network
from planner.networks.records import Engine, Precision
from planner.networks.running.sessions import BuildSession, run_across
from tests.engines import needs_openvino
from tests.networks import image, low_rank_variant, meshnet, unet
from tests.networks_in_store import StoredFamily

WAYS = [
    ("onnxruntime", "fp32"),
    pytest.param("openvino", "fp32", marks=needs_openvino),
    pytest.param("openvino", "bf16", marks=needs_openvino),
]


def families() -> dict[str, list[onnx.ModelProto]]:
    low = unet(3, (16, 48))
    return {
        "batch normalisation": [unet(3, norm_seed=site) for site in range(3)],
        "folded normalisation": [unet(4, norm="folded", norm_seed=site) for site in range(3)],
        "instance normalisation, 3D": [unet(5, norm="instance", norm_seed=site, dims=3) for site in range(3)],
        "heads": [meshnet(6, 24, head_seed=site) for site in range(3)],
        "low rank": [low, low_rank_variant(low, 1), low_rank_variant(low, 2)],
    }


def one_by_one(members: list[BuildSession], fed: np.ndarray) -> np.ndarray:
    return np.concatenate([m.run({"x0": fed[i : i + 1]})[0] for i, m in enumerate(members)])


@pytest.mark.parametrize(("engine", "precision"), WAYS)
@pytest.mark.parametrize("name", families())
def test_in_pieces_the_bytes_are_equal(
    name: str, engine: Engine, precision: Precision, tmp_path: Path
) -> None:
    models = families()[name]
    stored = StoredFamily(tmp_path, models)
    a, b, c = stored.members(stored.build(engine, precision))
    order = [a, b, b, c, a]
    fed = image(models[0], 1, batch=len(order))["input"]
    (found,) = run_across(order, {"x0": fed})
    np.testing.assert_array_equal(found, one_by_one(order, fed))
    assert not np.array_equal(found[:1], c.run({"x0": fed[:1]})[0]), "members do not differ"


@pytest.mark.parametrize("name", [name for name in families() if name != "low rank"])
def test_stacked_in_one_run_they_are_within_a_millionth(name: str, tmp_path: Path) -> None:
    models = families()[name]
    stored = StoredFamily(tmp_path, models)
    members = stored.members(stored.build(across=True))
    assert members[0].compiled.stacks
    for seed in range(5):
        order = [members[i] for i in np.random.default_rng(seed).integers(0, 3, 4)] + members[:2]
        fed = image(models[0], seed, batch=len(order))["input"]
        (found,) = run_across(order, {"x0": fed})
        expected = one_by_one(order, fed)
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


LOWER = [
    pytest.param("onnxruntime", ("int8",), id="onnxruntime int8"),
    pytest.param("onnxruntime", ("int8", "fp32"), id="onnxruntime mixed"),
    pytest.param("openvino", ("bf16",), marks=needs_openvino, id="openvino bf16"),
    pytest.param("openvino", ("int8",), marks=needs_openvino, id="openvino int8"),
    pytest.param("openvino", ("bf16", "int8", "fp32"), marks=needs_openvino, id="openvino mixed"),
]


def lowered_members(
    stored: StoredFamily, engine: Engine, pattern: tuple[Level, ...], calibration: list[np.ndarray]
) -> list[BuildSession]:
    """On a build as tuning makes it: what members differ in is lifted, layers take turns in the levels."""
    family, reader = stored.family, NetworkReader(stored.store.objects, stored.store.names)
    tensors = reader.tensors(family.base)
    stage = lifted_structure(reader.structure(family.base), tensors, family.lifted)
    fixed = {p.name: tensors[p.of].reshape(p.shape) for p in stage.parameters}
    mixtures = Mixtures(stage, [{"x0": fed, **fixed} for fed in calibration], 1, lambda line: None)
    levels = [pattern[number % len(pattern)] for number in range(len(mixtures.layers))]
    made = put_build(
        stored.store,
        mixtures.lowered(engine, levels),
        reader.weights(family.base),
        engine=engine,
        precision=precision_of(tuple(levels)),
        hints=NO_PRECISION_HINTS[engine],
    )
    return stored.members(made)


@pytest.mark.parametrize(("engine", "pattern"), LOWER)
def test_in_lower_precision_the_labels_are_equal(
    engine: Engine, pattern: tuple[Level, ...], tmp_path: Path
) -> None:
    models = families()["batch normalisation"]
    stored = StoredFamily(tmp_path, models)
    images = [image(models[0], seed, size=32)["input"] for seed in (20, 21)]
    a, b, c = lowered_members(stored, engine, pattern, images)
    assert a.compiled.stacks, "a batch would be run in pieces, where nothing can differ"
    plain = stored.members(stored.build())
    for seed in range(3):
        order = [a, b, b, c, a]
        fed = image(models[0], seed, batch=len(order), size=32)["input"]
        (found,) = run_across(order, {"x0": fed})
        alone = one_by_one(order, fed)
        np.testing.assert_array_equal(found.argmax(1), alone.argmax(1))
        exact = one_by_one([plain[0], plain[1], plain[1], plain[2], plain[0]], fed)
        assert not np.array_equal(alone, exact), "it runs in fp32"
        assert (alone.argmax(1) == exact.argmax(1)).mean() > 0.9, "these are not the members' labels"
    assert (a.run({"x0": fed})[0].argmax(1) != c.run({"x0": fed})[0].argmax(1)).mean() > 0.1, (
        "labels of members do not differ"
    )


def test_items_and_members_must_be_equally_many(tmp_path: Path) -> None:
    models = families()["batch normalisation"]
    stored = StoredFamily(tmp_path, models)
    members = stored.members(stored.build())
    with pytest.raises(KernelError, match="2 items were given with 3 members"):
        run_across(members, {"x0": image(models[0], 1, batch=2)["input"]})


def test_parameters_are_not_for_callers_to_give(tmp_path: Path) -> None:
    models = families()["batch normalisation"]
    stored = StoredFamily(tmp_path, models)
    member = stored.members(stored.build())[1]
    name, value = next(iter(member.parameters.items()))
    with pytest.raises(KernelError, match=f"no input {name}"):
        member.run({"x0": image(models[0], 1)["input"], name: value})


@pytest.mark.parametrize(
    ("node", "attributes", "apart"),
    [
        ("Softmax", {"axis": 1}, True),
        ("Softmax", {"axis": 0}, False),
        ("Softmax", {"axis": -3}, False),
        ("ReduceMean", {"axes": [2]}, True),
        ("ReduceMean", {"axes": [0]}, False),
        ("ReduceMean", {}, False),
        ("Transpose", {"perm": [0, 2, 1]}, True),
        ("Transpose", {"perm": [1, 0, 2]}, False),
        ("Flatten", {"axis": 1}, True),
        ("Flatten", {"axis": 2}, False),
        ("Relu", {}, True),
        ("Shape", {}, False),
    ],
)
def test_a_network_that_mixes_the_items_of_a_batch_is_known(
    node: str, attributes: dict[str, Any], apart: bool, tmp_path: Path
) -> None:
    from planner.networks.structure import Op, Port, Structure

    if node == "ReduceMean" and "axes" in attributes:
        attributes = {**attributes, "keepdims": 1}
    structure = Structure(
        opset=17,
        inputs=(Port("x0", "float32", ("n", 4, 6)),),
        outputs=(Port("y0", "float32", ("m",)),) if node == "Shape" else (Port("y0", "float32", ()),),
        tensors={},
        constants={},
        ops=(Op(node, ("x0",), ("y0",), attributes),),
    )
    ranks = {"x0": 3, "y0": 3}
    assert items_apart(structure, ranks) is apart


@pytest.mark.parametrize("build", [unet, meshnet])
def test_segmentation_networks_compute_item_by_item(build: Any, tmp_path: Path) -> None:
    onnx.save(build(1), tmp_path / "model.onnx")
    structure = open_network(tmp_path / "model.onnx").structure
    ranks = {name: len(shape) for name, shape in shapes_of(structure).items()}
    assert items_apart(structure, ranks)

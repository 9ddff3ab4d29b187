"""OpenVINO is fed small items of one member a few at a time, and everything else item by item."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.networks.building.build import put_build
from planner.networks.building.lift import lifted_structure
from planner.networks.keeping import NetworkReader
from planner.networks.precision.mixtures import Mixtures
from planner.networks.precision.trial import NO_PRECISION_HINTS
from planner.networks.records import Build, Engine, Parameter
from planner.networks.running.sessions import SMALL_ITEM_BYTES, TOGETHER, CompiledBuild
from tests.engines import needs_openvino
from tests.networks import image, unet
from tests.networks_in_store import StoredFamily

SMALL, LARGE = (1, 256, 256), (1, 257, 256)
ITEMS = 2 * TOGETHER + 3


@dataclass
class Recorded:
    """Gives back twice what it is fed, plus the member's number, and notes how many items came at a time."""

    sizes: list[int] = field(default_factory=list)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        self.sizes.append(len(inputs["x0"]))
        return [2 * inputs["x0"] + inputs["p0"][:, :, None, None]]


def recorded(engine: Engine = "openvino", *, items_apart: bool = True) -> tuple[CompiledBuild, list[int]]:
    parameter = Parameter(name="p0", dtype="float32", shape=(1, 1), of="w")
    build = Build(
        engine=engine,
        precision="fp32",
        graph="",
        tensors={},
        parameters=(parameter,),
        items_apart=items_apart,
    )
    session = Recorded()
    return CompiledBuild(build, session), session.sizes


def numbered(shape: tuple[int, ...], items: int = ITEMS) -> NDArray[np.float32]:
    return np.arange(items, dtype=np.float32)[:, None, None, None] * np.ones((1, *shape), np.float32)


def one_member() -> dict[str, NDArray[np.float32]]:
    return {"p0": np.full((1, 1), 100, np.float32)}


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [(SMALL, [TOGETHER, TOGETHER, 1, 1, 1]), (LARGE, [1] * ITEMS)],
    ids=["small", "large"],
)
def test_small_items_of_one_member_go_together_and_large_ones_one_by_one(
    shape: tuple[int, ...], sizes: list[int]
) -> None:
    compiled, seen = recorded()
    fed = numbered(shape)
    (found,) = compiled.run({"x0": fed}, one_member())
    assert seen == sizes
    np.testing.assert_array_equal(found, 2 * fed + 100)


def test_items_of_several_members_go_one_by_one_each_with_its_own_numbers() -> None:
    compiled, seen = recorded()
    fed, members = numbered(SMALL), np.arange(ITEMS, dtype=np.float32)[:, None]
    (found,) = compiled.run({"x0": fed}, {"p0": members})
    assert seen == [1] * ITEMS
    np.testing.assert_array_equal(found, 2 * fed + members[:, :, None, None])


def test_all_inputs_of_an_item_count_towards_its_size() -> None:
    compiled, seen = recorded()
    half = numbered((1, 256, 160))
    assert half[0].nbytes <= SMALL_ITEM_BYTES < 2 * half[0].nbytes
    compiled.run({"x0": half, "x1": half}, one_member())
    assert seen == [1] * ITEMS


@pytest.mark.parametrize(
    ("engine", "items_apart"),
    [("onnxruntime", True), ("openvino", False)],
    ids=["onnxruntime", "mixed items"],
)
def test_a_batch_that_need_not_or_must_not_be_parted_goes_whole(engine: Engine, items_apart: bool) -> None:
    compiled, seen = recorded(engine, items_apart=items_apart)
    compiled.run({"x0": numbered(LARGE)}, one_member())
    assert seen == [ITEMS]


@needs_openvino
@pytest.mark.parametrize("level", ["fp32", "bf16", "int8"])
def test_together_or_one_by_one_the_bytes_are_equal(level: Any, tmp_path: Path) -> None:
    models = [unet(3, norm_seed=site) for site in range(2)]
    stored = StoredFamily(tmp_path, models)
    reader, family = NetworkReader(stored.store.objects, stored.store.names), stored.family
    tensors = reader.tensors(family.base)
    stage = lifted_structure(reader.structure(family.base), tensors, family.lifted)
    fixed = {p.name: tensors[p.of].reshape(p.shape) for p in stage.parameters}
    fed = image(models[0], 1, batch=TOGETHER + 2)["input"]
    mixtures = Mixtures(stage, [{"x0": fed[:1], **fixed}], 1, lambda line: None)
    made = put_build(
        stored.store,
        mixtures.lowered("openvino", tuple(level for _ in mixtures.layers)),
        reader.weights(family.base),
        engine="openvino",
        precision=level,
        hints=NO_PRECISION_HINTS["openvino"],
    )
    member = stored.members(made)[1]
    (found,) = member.run({"x0": fed})
    alone = np.concatenate([member.run({"x0": fed[place : place + 1]})[0] for place in range(len(fed))])
    np.testing.assert_array_equal(found, alone)
    assert len({item.tobytes() for item in found}) == len(found)

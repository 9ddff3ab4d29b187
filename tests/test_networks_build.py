"""A family's build gives every member's outputs, from one session."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.errors import KernelError
from object_store.digest import Digest
from object_store.local import LocalStore
from planner.networks.building.build import build_family
from planner.networks.building.lift import lifted_structure
from planner.networks.reading.opening import open_network
from planner.networks.records import LARGE_BYTES, Build
from planner.networks.running.load import NetworkLoader
from planner.networks.running.sessions import CompiledBuild
from planner.networks.structure import Op, Port, Structure, TensorType
from tests.engines import ENGINES, needs_openvino
from tests.networks import (
    Norm,
    image,
    largest_difference,
    low_rank_variant,
    meshnet,
    private_variant,
    run,
    sparse_variant,
    unet,
)
from tests.networks_in_store import StoredFamily

WIDE = (16, 48)
DEEP = (16, 32, 64)


def sites(norm: Norm = "batch", **options: object) -> list[onnx.ModelProto]:
    return [unet(3, norm=norm, norm_seed=site, **options) for site in range(3)]  # type: ignore[arg-type]


def low_rank_family() -> list[onnx.ModelProto]:
    base = unet(3, WIDE)
    return [base, low_rank_variant(base, 1, rank=2), low_rank_variant(base, 2, rank=1)]


def sparse_family() -> list[onnx.ModelProto]:
    base = unet(3, WIDE)
    return [base, sparse_variant(base, 1), low_rank_variant(base, 2)]


def private_family() -> list[onnx.ModelProto]:
    base, site = unet(3, DEEP), unet(3, DEEP, norm_seed=7)
    return [base, private_variant(base, 1), private_variant(site, 2), site]


FAMILIES: dict[str, Callable[[], Sequence[onnx.ModelProto]]] = {
    "batch normalisation": sites,
    "batch normalisation, other opset": lambda: sites(opset=13),
    "folded normalisation": lambda: sites("folded"),
    "instance normalisation, 3D": lambda: sites("instance", dims=3),
    "upsampling by Resize": lambda: sites(up="resize"),
    "biases and head": lambda: [unet(3, norm="none", head_seed=seed) for seed in range(3)],
    "MeshNet, normalised": lambda: [meshnet(3, 24, norm="batch", norm_seed=seed) for seed in range(3)],
    "MeshNet, heads": lambda: [meshnet(3, 24, activation="Elu", head_seed=seed) for seed in range(3)],
    "channels that fill no block": lambda: [unet(3, (20, 40), norm_seed=site) for site in range(3)],
    "MeshNet, 2D": lambda: [meshnet(3, 32, norm="batch", norm_seed=seed, dims=2) for seed in range(3)],
    "low rank": low_rank_family,
    "sparse": sparse_family,
    "private": private_family,
    "alone": lambda: [unet(5)],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_member_gives_what_its_file_gives(name: str, across: bool, engine: str, tmp_path: Path) -> None:
    models = FAMILIES[name]()
    stored = StoredFamily(tmp_path, models)
    members = stored.members(stored.build(engine, across=across))  # type: ignore[arg-type]
    for model, member in zip(models, members, strict=True):
        for batch, size in ((1, 16), (2, 20)):
            fed = image(model, batch, batch=batch, size=size)["input"]
            assert largest_difference(member.run({"x0": fed}), run(model, {"input": fed})) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_building_again_gives_the_same_build(name: str, tmp_path: Path) -> None:
    models = FAMILIES[name]()
    first, second = StoredFamily(tmp_path / "a", models), StoredFamily(tmp_path / "b", models)
    assert first.build() == first.build() == second.build()


def test_a_family_that_differs_in_normalisation_has_one_session(tmp_path: Path) -> None:
    stored = StoredFamily(tmp_path, sites())
    members = stored.members(stored.build())
    assert len(stored.family.lifted) > 0
    assert len({id(member.compiled.session) for member in members}) == 1
    fed = sum(array.nbytes for array in members[0].parameters.values())
    assert fed < 5000, "a member is a handful of kilobytes"


def test_a_graph_is_kept_without_its_large_tensors_and_they_only_once(tmp_path: Path) -> None:
    model = unet(3, WIDE)
    stored = StoredFamily(tmp_path, [model])
    before = set(stored.store.objects)
    build: Build = stored.loader.compiled(str(stored.build())).build
    graph = Digest.parse(build.graph)
    added = [digest for digest in stored.store.objects if digest not in before and digest != graph]
    assert all(digest.size < LARGE_BYTES for digest in added)
    places = {Digest.parse(at.blob) for at in build.tensors.values()}
    assert places
    assert places <= before
    held = sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    assert graph.size + sum(digest.size for digest in places) < 1.1 * held


def test_low_rank_differences_are_applied_where_they_are_thin(tmp_path: Path) -> None:
    stored = StoredFamily(tmp_path, low_rank_family())
    assert set(stored.family.low_rank.values()) == {2}
    for how, sessions in (("applied", 1), ("materialised", 3)):
        members = stored.members(stored.build(low_rank=how))
        assert len({id(member.compiled.session) for member in members}) == sessions
        parts = {p.part for p in members[0].compiled.build.parameters}
        assert parts == ({"left", "right"} if how == "applied" else set())


def test_a_precision_that_an_engine_has_no_words_for_is_refused(tmp_path: Path) -> None:
    stored = StoredFamily(tmp_path, [unet(1)])
    with pytest.raises(ValueError, match="no bf16"):
        build_family(stored.store, stored.family, engine="onnxruntime", precision="bf16")


@needs_openvino
def test_bf16_is_close_and_not_equal(tmp_path: Path) -> None:
    models = sites()
    stored = StoredFamily(tmp_path, models)
    for model, member in zip(models, stored.members(stored.build("openvino", "bf16")), strict=True):
        fed = image(model, 0, size=32)["input"]
        assert 1e-5 < largest_difference(member.run({"x0": fed}), run(model, {"input": fed})) < 0.05


@pytest.mark.parametrize("seed", range(6))
def test_any_small_tensor_may_be_lifted(seed: int, tmp_path: Path) -> None:
    """Numbers of one network, fed as inputs of the stage, in random choices and in both forms."""
    from models.engines.registry import open_session
    from planner.networks.building.build import engine_graph

    numbers = np.random.default_rng(seed)
    norms: list[Norm] = ["batch", "instance", "none"]
    model = unet(seed, norm=norms[seed % 3], dims=2 + seed % 2)
    onnx.save(model, tmp_path / "model.onnx")
    opened = open_network(tmp_path / "model.onnx")
    names = [n for n in opened.structure.tensor_names() if numbers.random() < 0.6]
    fed = image(model, seed)["input"]
    expected = run(model, {"input": fed})
    for across in (False, True):
        stage = lifted_structure(opened.structure, opened.tensors, names, across=across)
        assert [p.name for p in stage.parameters if p.name not in names] == []
        parts = engine_graph(stage)
        session = open_session("onnxruntime", parts.graph, parts.large, 1, {})
        given = {p.name: np.reshape(opened.tensors[p.of], p.shape) for p in stage.parameters}
        assert {p.of for p in stage.parameters} == set(names)
        assert largest_difference(session.run({"x0": fed, **given}), expected) < 1e-5


def chain(seed: int, *, placed: float | None = None) -> onnx.ModelProto:
    """Convolutions 3x3 of 64 channels, the first one scaled by `seed`; then one of 1x1 with a scale that
    is the same in all, or a large tensor that is added and holds `placed` throughout."""
    filters, scales = np.random.default_rng(0), np.random.default_rng(seed)
    given: dict[str, np.ndarray] = {"first": scales.uniform(0.5, 1.5, (64, 1, 1)).astype(np.float32)}
    nodes, value = [], "input"
    for place in range(8):
        shape = (64, 64 if place else 1, 3, 3)
        given[f"w{place}"] = (filters.standard_normal(shape) * 0.05).astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, f"w{place}"], [f"c{place}"], pads=[1] * 4))
        value = f"c{place}"
        if place == 0:
            nodes.append(helper.make_node("Mul", [value, "first"], ["scaled"]))
            value = "scaled"
        nodes.append(helper.make_node("Relu", [value], [f"r{place}"]))
        value = f"r{place}"
    if placed is None:
        given["head"] = (filters.standard_normal((64, 64, 1, 1)) * 0.1).astype(np.float32)
        given["last"] = filters.uniform(0.5, 1.5, (64, 1, 1)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, "head"], ["headed"]))
        nodes.append(helper.make_node("Mul", ["headed", "last"], ["output"]))
    else:
        given["places"] = np.full((64, 16, 16), placed, np.float32)
        nodes.append(helper.make_node("Add", [value, "places"], ["output"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input", 1, ["n", 1, 16, 16])],
        [helper.make_tensor_value_info("output", 1, ["n", 64, 16, 16])],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def with_few_changed(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy in which the tensor has five in a few places."""
    changed: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    (tensor,) = [tensor for tensor in changed.graph.initializer if tensor.name == name]
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[3::97] = 5
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return changed


@pytest.mark.parametrize(("name", "placed"), [("head", None), ("places", 0.0), ("w3", None)])
def test_a_member_with_filters_of_its_own_computes_with_them(
    name: str, placed: float | None, tmp_path: Path
) -> None:
    """Even where the base's would be folded into another number, or left out because they change nothing."""
    base, site = chain(1, placed=placed), chain(2, placed=placed)
    models = [base, site, with_few_changed(site, name)]
    stored = StoredFamily(tmp_path, models)
    assert len(stored.family.sparse) == 1
    for model, member in zip(models, stored.members(stored.build()), strict=True):
        fed = image(model, 1, size=16)["input"]
        assert largest_difference(member.run({"x0": fed}), run(model, {"input": fed})) < 1e-5


def test_a_member_with_a_large_tensor_of_its_own_has_its_own_session_and_the_others_one(
    tmp_path: Path,
) -> None:
    stored = StoredFamily(tmp_path, private_family())
    assert len(stored.family.private) == 1
    base, *own, site = stored.members(stored.build())
    assert site.compiled is base.compiled
    assert len({id(member.compiled) for member in (base, *own)}) == 3
    again = stored.members(stored.build())
    assert [member.compiled for member in again] == [member.compiled for member in (base, *own, site)]


def test_a_build_without_a_place_for_a_members_filters_is_refused(tmp_path: Path) -> None:
    models = [chain(1), with_few_changed(chain(2), "head")]
    stored = StoredFamily(tmp_path, models)
    (name,) = stored.family.sparse
    made = stored.loader.compiled(str(stored.build())).build
    tensors = {other: at for other, at in made.tensors.items() if other != name}
    lacking = msgspec.structs.replace(made, tensors=tensors, otherwise="")
    digest = stored.store.objects.put(lacking.to_bytes())
    network = stored.networks[1]
    with pytest.raises(KernelError, match=name):
        Lacking(stored.store.objects, lacking).member(str(digest), network, stored.variant(network))
    whole = msgspec.structs.replace(lacking, otherwise=str(stored.build()))
    digest = stored.store.objects.put(whole.to_bytes())
    found = Lacking(stored.store.objects, whole).member(str(digest), network, stored.variant(network))
    fed = image(models[1], 1, size=16)["input"]
    assert largest_difference(found.run({"x0": fed}), run(models[1], {"input": fed})) < 1e-5


class Lacking(NetworkLoader):
    """Takes what it has not compiled for this build, of which no session is made."""

    def __init__(self, objects: LocalStore, lacking: Build) -> None:
        super().__init__(objects)
        self._lacking = lacking

    def compiled(self, digest: str) -> CompiledBuild:
        if digest == self._lacking.otherwise:
            return super().compiled(digest)
        return CompiledBuild(self._lacking, never)


class _Never:
    def run(self, inputs: object) -> list[np.ndarray]:
        raise AssertionError


never = _Never()


def test_building_takes_time_in_proportion_to_the_operators() -> None:
    def deep(count: int) -> float:
        names = [f"t{place}" for place in range(3 * count)]
        shapes = [(2, 2, 1, 1), (2, 1, 1), (2, 1, 1)]
        arrays = {
            name: np.full(shapes[place % 3], 0.0 if place % 3 == 2 else 1.0, np.float32)
            for place, name in enumerate(names)
        }
        ops, value = [], "x0"
        for place in range(count):
            for kind, step in (("Conv", 0), ("Mul", 1), ("Add", 2)):
                result = f"v{3 * place + step}" if 3 * place + step < 3 * count - 1 else "y0"
                ops.append(Op(kind, (value, names[3 * place + step]), (result,)))
                value = result
        structure = Structure(
            opset=17,
            inputs=(Port("x0", "float32", ("n", 2, "h", "w")),),
            outputs=(Port("y0", "float32", ("n", 2, "h", "w")),),
            tensors={name: TensorType("float32", array.shape) for name, array in arrays.items()},
            constants={},
            ops=tuple(ops),
        )
        started = time.process_time()
        assert len(lifted_structure(structure, arrays).structure.ops) == count
        return time.process_time() - started

    deep(50)
    assert deep(2000) < 40 * max(deep(200), 0.02)  # ten times, and room for chance; it was a hundred times

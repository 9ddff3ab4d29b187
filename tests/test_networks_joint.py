"""Networks that are computed together give what each gives alone, and what they share runs once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.engines.onnxruntime import OnnxSession
from models.operators.network import Network
from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.networks.cutting import cut as cutting
from planner.networks.cutting.parts import stored_parts
from planner.networks.families.register import register
from planner.networks.joint import Joint, JointParts, PartRun, find_joint, joint_of
from planner.networks.keeping import NetworkReader, network_references
from planner.networks.records import Build
from planner.networks.running.together import JointSession
from planner.plan import Node, node_identity
from planner.references import references
from tests.joint_networks import family_of, opened_model, together
from tests.networks import encoder_decoder, image, largest_difference, meshnet, run, unet
from tests.planner_cases import bare_plan

FED = (1, 1, 64, 64)


@st.composite
def families(draw: st.DrawFn) -> list[onnx.ModelProto]:
    """Two to four networks over one input; some share an encoder, all but the head, or the decoder."""
    channels = draw(st.sampled_from([(4, 8), (8, 16, 24)]))
    options: dict[str, Any] = {
        "norm": draw(st.sampled_from(["batch", "folded", "instance", "none"])),
        "dims": draw(st.sampled_from([2, 2, 3])),
        "up": draw(st.sampled_from(["transpose", "resize"])),
    }
    return [
        unet(
            draw(st.integers(1, 2)),
            channels,
            decoder_seed=draw(st.sampled_from([None, 5, 6])),
            head_seed=draw(st.sampled_from([None, number])),
            classes=draw(st.integers(1, 3)) if number == 0 else 3,
            **options,
        )
        for number in range(draw(st.integers(2, 4)))
    ]


@settings(max_examples=25, deadline=None)
@given(models=families(), apart=st.sampled_from([0.0, 0.05, 1e9]), least=st.sampled_from([1, 1 << 20]))
def test_together_is_what_each_gives_alone(models: list[onnx.ModelProto], apart: float, least: int) -> None:
    family = family_of(models)
    dims = len(models[0].graph.input[0].type.tensor_type.shape.dim) - 2
    size = 64 if dims == 2 else 16
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(cutting, "APART_SHARE", apart)
        changed.setattr("planner.networks.cutting.suffix.LEAST_BYTES", least)
        changed.setattr(cutting, "WORTH", 10.0)  # whatever is shared, worth it or not
        changed.setattr(cutting, "MEMORY_WORTH", 10.0)
        found = together(family, (1, 1, *[size] * dims))
    if found is None:
        return
    feeds = image(models[0], 0, size=size)
    outputs = list(found.session.run({"x0": feeds["input"]}, family.networks))
    for ours, model in zip(outputs, models, strict=True):
        assert largest_difference(ours, run(model, feeds)) <= 1e-5


def test_the_encoder_runs_once_for_all_decoders_and_not_at_all_for_others() -> None:
    models = [*(encoder_decoder(1, 10 + i, (32, 64, 128, 256)) for i in range(3)), unet(2, (8, 16))]
    family = family_of(models)
    found = together(family, (1, 1, 256, 256))
    assert found is not None
    assert len(found.builds) == 5
    feeds = {"x0": image(models[0], 0, size=32)["input"]}
    list(found.session.run(feeds, family.networks))
    assert [build.runs for build in found.builds.values()] == [1] * 5
    list(found.session.run(feeds, family.networks[3:]))
    assert sorted(build.runs for build in found.builds.values()) == [1, 1, 1, 1, 2]


def test_networks_come_one_after_the_other_in_the_order_asked_for() -> None:
    models = [encoder_decoder(1, 10 + i, (32, 64, 128, 256)) for i in range(3)]
    family = family_of(models)
    found = together(family, (1, 1, 256, 256))
    assert found is not None
    feeds = image(models[0], 0, size=32)
    results = found.session.run({"x0": feeds["input"]}, family.networks[::-1])
    first = next(results)
    assert sum(build.runs for build in found.builds.values()) == 2  # the encoder and one decoder
    assert largest_difference(first, run(models[2], feeds)) <= 1e-5
    assert largest_difference(next(results), run(models[1], feeds)) <= 1e-5


def test_values_that_nobody_reads_any_more_are_dropped() -> None:
    alive: list[int] = []
    values: list[Any] = []

    class Session:
        def __init__(self, build: str) -> None:
            self._gives = int(build)

        def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
            import weakref

            alive.append(sum(reference() is not None for reference in values))
            made = [np.ones(3, np.float32) for _ in range(self._gives)]
            values.extend(weakref.ref(array) for array in made)
            return made

    runs = [PartRun(build="2", takes=("x0",), gives=("a", "b"))]
    runs += [PartRun(build="1", takes=("a",), gives=("c",)), PartRun(build="1", takes=("b",), gives=("d",))]
    parts = JointParts(runs=tuple(runs), outputs={"one": ("c",), "two": ("d",)}, share=0.5)
    for outputs in JointSession(parts, Session).run({"x0": np.ones(3, np.float32)}, ("one", "two")):
        del outputs
    assert alive == [0, 2, 1]  # before the second head only what it reads is left


# -- in a store, and in plans ------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def node(graph: str, source: str = "volume", **parameters: Any) -> Node:
    given_ = msgspec.json.decode(
        msgspec.json.encode(Network(graph=graph, segments=("a", "b"), **parameters).parameters())
    )
    return Node(
        id=node_identity("network", 1, given_, (source,)),
        step="net",
        operator="network",
        version=1,
        parameters=given_,
        inputs=(source,),
    )


def graph(number: int) -> str:
    return str(Digest.of(b"%d" % number))


SLICES: dict[str, Any] = {"mode": "slices", "input": "x0"}


def test_nodes_are_joined_by_input_walk_and_plans() -> None:
    alike = [node(graph(n), activation=a, **SLICES) for n, a in enumerate(("none", "softmax"))]
    others = [
        node(graph(2), "another volume", **SLICES),
        node(graph(3), **SLICES, batch=2),
        node(graph(4), **SLICES, mirror=("rows",)),
    ]
    (joint,) = find_joint({"one": bare_plan(*alike, *others)})
    assert joint.nodes == tuple(sorted(n.id for n in alike))
    assert joint.networks == tuple(sorted((graph(0), graph(1))))
    assert find_joint({"one": bare_plan(alike[0]), "two": bare_plan(alike[1])}) == ()
    assert find_joint({"one": bare_plan(*alike), "two": bare_plan(*alike)}) == (joint,)
    assert find_joint({"two": bare_plan(*alike[::-1]), "one": bare_plan(*alike)}) == (joint,)


def test_networks_that_share_nothing_are_joined_only_while_their_maps_are_few() -> None:
    many = {"segments": tuple(f"s{n}" for n in range(20))}
    nodes = [
        msgspec.structs.replace(n, parameters=n.parameters | many) for n in map(node, (graph(0), graph(1)))
    ]
    assert find_joint({"one": bare_plan(*nodes)}) == ()
    shared = JointParts(runs=(), outputs={}, share=0.5)
    (joint,) = find_joint({"one": bare_plan(*nodes)}, lambda networks, fed: shared)
    assert joint.parts == shared


def test_a_joint_is_found_by_its_networks_in_any_order() -> None:
    parts = JointParts(runs=(), outputs={}, share=0.5)
    joints = [Joint(nodes=("a",), networks=("g", "h")), Joint(nodes=("b",), networks=("g", "h"), parts=parts)]
    assert joint_of(joints, ("h", "g", "h")) == joints[1]
    assert joint_of(joints, ("g",)) is None


def test_networks_of_the_store_are_taken_apart_into_builds(store: Store) -> None:
    models = [encoder_decoder(1, 10 + i, (16, 32, 64)) for i in range(2)]
    networks = [str(register(store, opened_model(m.SerializeToString())).network) for m in models]
    (joint,) = find_joint({"p": bare_plan(*(node(n, **SLICES) for n in networks))}, stored_parts(store))
    assert joint.parts is not None
    reader = NetworkReader(store.objects, store.names)

    def session_of(build: str) -> OnnxSession:
        read: Build = reader.read(build, Build)
        tensors = {
            name: np.frombuffer(store.objects.get(Digest.parse(at.blob)), at.dtype).reshape(at.shape)
            for name, at in read.tensors.items()
        }
        return OnnxSession(store.objects.get(Digest.parse(read.graph)), tensors)

    feeds = image(models[0], 0, size=32)
    outputs = JointSession(joint.parts, session_of).run({"x0": feeds["input"]}, networks)
    for ours, model in zip(outputs, models, strict=True):
        assert largest_difference(ours, run(model, feeds)) <= 1e-5
    for build in joint.builds():
        kept = network_references(store.objects.get(Digest.parse(build)))
        assert kept
        assert not store.objects.missing(kept)


def test_parts_are_cut_once_and_again_only_when_they_are_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [unet(1, (16, 32), head_seed=i) for i in range(2)]
    networks = tuple(
        sorted(str(register(store, opened_model(m.SerializeToString())).network) for m in models)
    )
    first = stored_parts(store)(networks, FED)
    assert first is not None
    monkeypatch.setattr("planner.networks.cutting.parts.cut", lambda *_: pytest.fail("was cut again"))
    assert stored_parts(store)(networks, FED) == first
    monkeypatch.undo()
    collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    assert store.objects.missing([Digest.parse(first.runs[0].build)])
    assert stored_parts(store)(networks, FED) == first
    assert not store.objects.missing([Digest.parse(first.runs[0].build)])


def test_networks_that_run_faster_whole_stay_whole(store: Store) -> None:
    models = [encoder_decoder(1, 10 + i, (16, 32, 64)) for i in range(2)]
    networks = tuple(
        sorted(str(register(store, opened_model(m.SerializeToString())).network) for m in models)
    )
    plain = stored_parts(store)(networks, FED)
    assert plain is not None
    assert 0.5 < plain.share < 1
    assert stored_parts(store, dict.fromkeys(networks, 1.01))(networks, FED) == plain
    assert stored_parts(store, dict.fromkeys(networks, 3.0))(networks, FED) is None


def test_an_opaque_graph_has_no_parts(store: Store) -> None:
    opaque = str(store.objects.put(meshnet(1).SerializeToString()))
    other = str(register(store, opened_model(unet(1).SerializeToString())).network)
    assert stored_parts(store)(tuple(sorted((opaque, other))), FED) is None

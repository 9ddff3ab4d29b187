"""A network is opened where its canonical form computes the same, and else stays its file and says why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.operators.base import KernelContext
from models.operators.network import Network
from models.pipeline_file import pipeline_path, read_pipeline
from models.values import ONE, ProbabilityMap, Volume
from object_store.digest import Digest
from object_store.opening import Store
from planner.networks.adopt import why_opaque
from planner.networks.errors import NotOpenable
from planner.networks.families.known import add_network
from planner.networks.families.members import variants
from planner.networks.joint import networks_of
from planner.networks.structure import Opened
from planner.resources import StoreResources
from tests.networks import saved, unet
from tests.networks_in_pipelines import ZOO_NETS, compiled, network_in, with_network
from tests.planner_cases import binding_of


def with_control_flow() -> onnx.ModelProto:
    """input -> If(true, input + 1, input) -> logits: runs, and cannot be seen into."""
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    shape: list[Any] = ["n", 3, "rows", "columns"]
    one = onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "one")
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    then = onnx.helper.make_graph(
        [make("Add", ["input", "one"], ["more"])], "then", [], [value("more", 1, shape)]
    )
    other = onnx.helper.make_graph(
        [make("Mul", ["input", "one"], ["same"])], "else", [], [value("same", 1, shape)]
    )
    graph = onnx.helper.make_graph(
        [make("If", ["yes"], ["logits"], then_branch=then, else_branch=other)],
        "flow",
        [value("input", 1, ["n", 1, "rows", "columns"])],
        [value("logits", 1, shape)],
        [one, yes],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def test_a_network_that_cannot_be_opened_stays_its_file_and_says_why(store: Store, tmp_path: Path) -> None:
    path = saved(tmp_path, with_control_flow())
    (one,) = compiled(store, with_network(path))
    graph = network_in(one.plan)
    assert graph == str(Digest.of(path.read_bytes()))
    assert "control-flow" in why_opaque(store, graph)
    assert binding_of(store).networks == {}
    resources = StoreResources(store.objects.root).under(binding_of(store))
    fed = np.zeros((1, 1, 4, 4), np.float32)
    (logits,) = resources.network(graph).run({"input": fed})
    assert logits.shape == (1, 3, 4, 4)
    assert (logits == 1).all()


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were compared with their canonical form."""
    from planner.networks.reading import faithful

    real, files = faithful.faithful, []

    def counted(file: Path, *arguments: Any) -> Any:
        files.append(file.stem)
        return real(file, *arguments)

    monkeypatch.setattr(faithful, "faithful", counted)
    return files


def test_a_file_is_compared_with_its_canonical_form_once_for_each_base(
    store: Store, tmp_path: Path, compared: list[str]
) -> None:
    models = {
        "a": unet(3),
        "site": unet(3, norm_seed=7),
        "folded": unet(3, norm="folded", norm_seed=8),
        "other": unet(4),
    }
    for _ in range(2):
        for name, model in models.items():
            compiled(store, with_network(saved(tmp_path, model, name), name))
    add_network(store, saved(tmp_path, models["site"], "again"), "again")
    assert compared == ["a", "other"]
    add_network(store, saved(tmp_path, unet(5), "third"), "third")
    assert compared == ["a", "other", "third"]


def test_a_network_whose_canonical_form_computes_something_else_stays_opaque_and_says_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.networks.reading import opening

    real = opening.open_network

    def wrongly(*arguments: Any) -> Opened:
        opened = real(*arguments)
        name, array = next((n, a) for n, a in opened.tensors.items() if a.ndim == 4)
        return Opened(
            opened.structure, {**opened.tensors, name: 2 * array}, opened.input_names, opened.output_names
        )

    monkeypatch.setattr(opening, "open_network", wrongly)
    path = saved(tmp_path, unet(3))
    (one,) = compiled(store, with_network(path))
    assert network_in(one.plan) == str(Digest.of(path.read_bytes()))
    assert "canonical-differs" in why_opaque(store, network_in(one.plan))
    with pytest.raises(NotOpenable) as caught:
        add_network(store, path, "net")
    assert caught.value.reason == "canonical-differs"
    assert variants(store) == {}
    assert not any(name.startswith(("family/", "network/")) for name in store.names.items())


def test_a_network_step_gives_the_same_map_opened_as_opaque(store: Store) -> None:
    (one,) = compiled(store, read_pipeline(pipeline_path(ZOO_NETS[2])))
    (step,) = [
        step.operator
        for step in read_pipeline(pipeline_path(ZOO_NETS[2])).steps
        if isinstance(step.operator, Network)
    ]
    opaque = replace(
        step,
        graph=str(store.objects.put_file(Path(step.graph))),
        variant=str(store.objects.put_file(Path(step.variant))),
    )
    (node,) = [node for node in one.plan.nodes if networks_of(node)]
    opened = Network.from_parameters(node.parameters)
    voxels = np.random.default_rng(2).random((3, 40, 56), np.float32)
    volume = Volume(voxels, np.diag([2.0, 2.0, 2.0, 1.0]), ONE)
    resources = StoreResources(store.objects.root)
    ours = opened.apply([volume], KernelContext(resources=resources.under(binding_of(store))))
    theirs = opaque.apply([volume], KernelContext(resources=resources))
    assert isinstance(ours, ProbabilityMap)
    assert isinstance(theirs, ProbabilityMap)
    assert float(np.abs(ours.values - theirs.values).max()) <= 1e-5

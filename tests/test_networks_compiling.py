"""Pipelines with networks are compiled: opened, named alike in any store, or an error that names the key."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from models.engines.onnxruntime import OnnxSession
from models.errors import PipelineError
from models.operators.network import Network
from models.pipeline import Gate
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.live import compiled_plan
from planner.networks.families.members import families
from planner.networks.joint import networks_of
from planner.resources import StoreResources
from tests.conftest import printed
from tests.networks import largest_difference, saved, unet
from tests.networks_in_pipelines import (
    ZOO_NETS,
    compiled,
    network_in,
    with_network,
)
from tests.planner_cases import binding_of


def test_the_bundled_network_and_its_variants_are_one_family_one_build_and_one_session(store: Store) -> None:
    done = compiled(store, *(read_pipeline(pipeline_path(name)) for name in ZOO_NETS))
    bound = binding_of(store).networks
    assert len(families(store)) == 1
    assert bound.keys() == {network_in(one.plan) for one in done}
    assert len(bound) == len(ZOO_NETS)
    assert len({choice.build for network in bound.values() for choice in network.choices}) == 1
    resources = StoreResources(store.objects.root).under(binding_of(store))
    sessions = {id(resources.network(graph).compiled) for graph in bound}  # type: ignore[attr-defined]
    assert len(sessions) == 1


def test_every_bundled_network_computes_what_its_authored_files_do(store: Store) -> None:
    done = compiled(store, *(read_pipeline(pipeline_path(name)) for name in ZOO_NETS))
    resources = StoreResources(store.objects.root)
    fed = np.random.default_rng(3).random((2, 1, 64, 96), np.float32)

    for one in done:
        operator = next(
            s.operator
            for s in read_pipeline(pipeline_path(one.plan.pipeline)).steps
            if isinstance(s.operator, Network)
        )
        authored = OnnxSession(Path(operator.graph).read_bytes())
        own = dict(np.load(operator.variant)) if operator.variant else {}
        wanted = authored.run({"input": fed, **own})
        for under in (resources.under(binding_of(store)), resources):
            ours = under.network(network_in(one.plan)).run({"x0": fed})
            assert largest_difference(ours, wanted) <= 1e-5, one.plan.pipeline


def test_plans_are_equal_in_any_order_and_in_any_store(tmp_path: Path) -> None:
    models = {"a": unet(3), "b": unet(3, norm_seed=7), "c": unet(3, norm="folded", norm_seed=8), "d": unet(4)}
    pipelines = {name: with_network(saved(tmp_path, model, name), name) for name, model in models.items()}
    seen = set()
    for number, order in enumerate(itertools.permutations("abcd")):
        if number % 5:  # five of the orders; each begins the family with another network
            continue
        with open_store(tmp_path / f"store-{number}") as opened:
            for name in order:
                compiled(opened, pipelines[name])
            seen.add(tuple(str(compiled_plan(opened, name)[0]) for name in "abcd"))
    assert len(seen) == 1


def test_a_graph_and_its_variant_are_one_network_that_is_fed_by_place(store: Store) -> None:
    (one,) = compiled(store, read_pipeline(pipeline_path(ZOO_NETS[1])))
    (node,) = [node for node in one.plan.nodes if networks_of(node)]
    assert node.parameters["variant"] == ""
    assert node.parameters["input"] == "x0"
    assert node.parameters["output"] == 0
    assert Digest.parse(network_in(one.plan)).size < 1000


def test_a_wrong_input_name_is_an_error_that_names_the_key_and_the_names_there_are(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match="no input 'picture', but input") as caught:
        compiled(store, with_network(saved(tmp_path, unet(3)), input="picture"))
    assert caught.value.key == "steps.net.input"


def test_a_wrong_output_number_is_an_error_at_compiling(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="1 outputs, and no number 1") as caught:
        compiled(store, with_network(saved(tmp_path, unet(3)), output=1))
    assert caught.value.key == "steps.net.output"


def test_a_corrupt_file_is_an_error_that_names_file_and_key(store: Store, tmp_path: Path) -> None:
    whole = saved(tmp_path, unet(3), "broken")
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(PipelineError, match=r"broken\.onnx") as caught:
        compiled(store, with_network(whole))
    assert caught.value.key == "steps.net.graph"
    assert store.names.items() == {}


def test_a_variant_with_an_unknown_tensor_is_an_error_that_names_the_variant(
    store: Store, tmp_path: Path
) -> None:
    np.savez(tmp_path / "site.npz", nonsense=np.zeros(3, np.float32))
    with pytest.raises(PipelineError, match="nonsense") as caught:
        compiled(store, with_network(saved(tmp_path, unet(3)), variant=str(tmp_path / "site.npz")))
    assert caught.value.key == "steps.net.variant"


_COMPILES = """
import sys
sys.modules["onnx"] = None
from pathlib import Path
from models.errors import PipelineError
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.opening import open_store
from planner.compile import compile_pipelines
with open_store(Path(sys.argv[1])) as store:
    try:
        compile_pipelines(store, [read_pipeline(pipeline_path("ct-lungs-net"))])
    except PipelineError as error:
        print(error.key, error, len(store.names.items()))
"""


def test_a_pipeline_with_a_network_is_not_compiled_without_what_opens_it(tmp_path: Path) -> None:
    said = printed(_COMPILES, str(tmp_path / "store"))
    assert "pip install -e '.[planner]' in Lightbox's folder" in said
    assert said.split()[0] == "steps.net.graph"
    assert said.split()[-1] == "0"  # nothing was named


def test_a_gate_of_ones_own_is_part_of_the_plan_and_the_usual_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "strict.yaml"
    file.write_text("extends: ct-lungs-net\npipeline: strict\ngate: {least_dice: 0.999}\n", encoding="utf-8")
    assert read_pipeline(file).gate == Gate(least_dice=0.999)
    with open_store(tmp_path / "store") as store:
        strict, usual = compiled(store, read_pipeline(file), read_pipeline(pipeline_path("ct-lungs-net")))
    assert strict.plan.gate == {"least_dice": 0.999, "mean_dice": 0.995, "volume_change": 0.01}
    assert b'"gate"' in strict.plan.to_bytes()
    assert b'"gate"' not in usual.plan.to_bytes()
    file.write_text("extends: ct-lungs-net\ngate: {least_dice: 2}\n", encoding="utf-8")
    with pytest.raises(PipelineError, match="between 0 and 1") as caught:
        read_pipeline(file)
    assert caught.value.line == 2

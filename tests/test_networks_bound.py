"""What a binding holds of networks is enough to run them, on this machine and on others."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import planner.ways
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.opening import Store
from planner.networks import bind as bind_module
from planner.networks.building import build
from planner.networks.keeping import NetworkReader
from planner.networks.records import Build, Family
from planner.plan import read_plan
from planner.references import references
from planner.resources import StoreResources
from planner.ways import fallbacks, said_ways
from tests.conftest import printed
from tests.engines import needs
from tests.networks import largest_difference, saved, unet
from tests.networks_in_pipelines import ZOO_NETS, answers, compiled, expected, network_in, with_network
from tests.planner_cases import binding_of


def test_one_more_variant_builds_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    made: list[str] = []
    real = build.build_family

    def counted(*arguments: Any, **options: Any) -> Digest:
        made.append("build")
        return real(*arguments, **options)

    monkeypatch.setattr(build, "build_family", counted)
    for number in range(4):
        path = saved(tmp_path, unet(3, norm_seed=100 + number), f"site-{number}")
        compiled(store, with_network(path, f"site-{number}"))
    assert len(made) == 2  # of the first alone, and with what differs lifted
    assert len(binding_of(store).networks) == 4


def test_binding_again_reads_no_variant_that_this_process_knows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        path = saved(tmp_path, unet(3, norm_seed=100 + number), f"site-{number}")
        compiled(store, with_network(path, f"site-{number}"))
    read: list[type] = []
    real = NetworkReader.read

    def watched(self: Any, digest: Digest, kind: type) -> Any:
        read.append(kind)
        return real(self, digest, kind)

    monkeypatch.setattr(NetworkReader, "read", watched)
    plans = {digest: read_plan(store.objects.get(Digest.parse(digest))) for digest in binding_of(store).plans}
    bind_module.bound_networks(store, bind_module.networks_in(plans))
    assert set(read) == {Family, Build}
    assert read.count(Family) == 1


def test_the_binding_alone_keeps_what_a_network_runs_from(store: Store, tmp_path: Path) -> None:
    model = unet(3, norm_seed=7)
    compiled(store, with_network(saved(tmp_path, unet(3), "a"), "a"))
    (one,) = compiled(store, with_network(saved(tmp_path, model, "b"), "b"))
    bound = binding_of(store)
    for name in list(store.names.items()):
        if name != "binding":
            store.names.delete(name)
    collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    resources = StoreResources(store.objects.root).under(bound)
    ours = answers(resources, network_in(one.plan), model)
    assert largest_difference(ours, expected(model)) <= 1e-5


def test_a_binding_of_a_machine_with_another_engine_falls_back_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:

    (one,) = compiled(store, read_pipeline(pipeline_path("ct-lungs-net")))
    binding, graph = binding_of(store), network_in(one.plan)
    assert said_ways(one.plan, binding) == "onnxruntime fp32"
    assert fallbacks(binding) == ()
    plain = binding.networks[graph].choices[0]
    fast = msgspec.structs.replace(
        plain, engine="openvino", precision="bf16", build="sha256:" + "0" * 64 + "-1"
    )
    choices = msgspec.structs.replace(binding.networks[graph], choices=(fast, plain))
    tuned = msgspec.structs.replace(binding, networks={graph: choices})
    monkeypatch.setattr(
        planner.ways, "engine_available", lambda engine: engine in ("onnxruntime", "openvino")
    )
    assert said_ways(one.plan, tuned) == "openvino bf16"
    monkeypatch.setattr(planner.ways, "engine_available", lambda engine: engine == "onnxruntime")
    assert said_ways(one.plan, tuned) == "onnxruntime fp32"
    assert fallbacks(tuned) == (
        "1 networks were planned for openvino, which is not installed here: they run on onnxruntime fp32",
    )
    fed = {"x0": np.zeros((1, 1, 16, 16), np.float32)}
    elsewhere = msgspec.structs.replace(tuned, machine={**tuned.machine, "cpu": "another"})
    assert said_ways(one.plan, elsewhere) == "onnxruntime fp32"
    assert fallbacks(elsewhere) == (
        "1 networks were planned on another machine or for other engines: they run in fp32",
    )
    (ours,) = StoreResources(store.objects.root).under(tuned).network(graph).run(fed)
    (plainly,) = StoreResources(store.objects.root).under(binding).network(graph).run(fed)
    assert np.array_equal(ours, plainly)


def test_the_ways_of_a_plan_do_not_change_when_others_are_bound(store: Store, tmp_path: Path) -> None:
    (one,) = compiled(store, with_network(saved(tmp_path, unet(3), "a"), "a"))
    nodes = [node.id for node in one.plan.nodes]
    before = binding_of(store).ways_of([network_in(one.plan)], nodes)
    compiled(store, with_network(saved(tmp_path, unet(9, (4, 8)), "b"), "b"))
    after = binding_of(store)
    assert after.ways_of([network_in(one.plan)], nodes) == before != ""
    assert after.ways_of(["sha256:" + "0" * 64 + "-1"], []) == ""


_RUN = """
import sys
for name in ("onnx", "openvino", "torch", "openvino_telemetry"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from object_store.opening import open_store
from planner.live import current_binding
from planner.resources import StoreResources
with open_store(Path(sys.argv[1])) as store:
    binding = current_binding(store)[1]
resources = StoreResources(Path(sys.argv[1])).under(binding)
for graph in binding.networks:
    (found,) = resources.network(graph).run({"x0": np.zeros((1, 1, 16, 16), np.float32)})
    print(found.shape[1])
"""


def test_a_bound_network_runs_where_onnx_and_openvino_cannot_be_imported(store: Store) -> None:
    compiled(store, *(read_pipeline(pipeline_path(name)) for name in ZOO_NETS[:2]))
    assert printed(_RUN, str(store.objects.root)).split() == ["3", "3"]


_REPORTS = """
import sys
from planner.networks.precision.abilities import levels_of
from models.engines.openvino import OpenvinoSession
print(levels_of("openvino"), sys.modules.get("openvino_telemetry"))
"""


def test_nothing_is_reported_to_anybody_when_openvino_is_used() -> None:
    needs("openvino")
    said = printed(_REPORTS)
    assert "int8" in said
    assert said.split()[-1] == "None"  # its importer finds it blocked, and reports nothing

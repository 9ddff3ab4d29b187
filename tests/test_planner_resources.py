"""Networks by digest: as a binding says, with a fall-back that is told once; exact without a binding."""

import gc
import logging
import sys
import threading
import time
import weakref
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from models.engines import onnxruntime as engine
from models.engines import registry
from models.engines.onnxruntime import OnnxSession
from models.errors import KernelError
from object_store.digest import Digest
from object_store.errors import ObjectCorrupt, ObjectMissing
from object_store.local import LocalStore
from planner import ways
from planner.binding import Binding
from planner.machine import machine_facts
from planner.networks.families.verify import verify_variant
from planner.networks.records import BoundNetwork, Gated
from planner.networks.running.kept import Kept
from planner.networks.running.load import PRIVATE_SESSIONS, NetworkLoader
from planner.networks.running.sessions import BuildSession
from planner.resources import BoundResources, StoreResources
from serving.pools.ways import BINDINGS, WorkerResources
from tests.networks import image, largest_difference, low_rank_variant, run, unet
from tests.networks_in_store import StoredFamily


def gated(build: Digest, engine: Any = "onnxruntime", precision: Any = "fp32") -> Gated:
    return Gated(build=str(build), engine=engine, precision=precision, passed=True, figures={})


def bound(stored: StoredFamily, choices: Sequence[Gated]) -> Binding:
    networks = {
        network: BoundNetwork(
            variant=stored.variant(network), family=stored.networks[0], choices=tuple(choices)
        )
        for network in stored.networks
    }
    return Binding(machine=machine_facts(), plans={}, stages=(), networks=networks)


@pytest.fixture
def models() -> list[onnx.ModelProto]:
    return [unet(3, norm_seed=site) for site in range(3)]


@pytest.fixture
def stored(tmp_path: Path, models: list[onnx.ModelProto]) -> StoredFamily:
    return StoredFamily(tmp_path, models)


def agree(found: Any, stored: StoredFamily, models: list[onnx.ModelProto], tolerance: float = 1e-5) -> None:
    for network, model in zip(stored.networks, models, strict=True):
        fed = image(model, 1)["input"]
        assert (
            largest_difference(found.network(network).run({"x0": fed}), run(model, {"input": fed}))
            < tolerance
        )


def test_bound_networks_of_a_family_share_one_session(
    stored: StoredFamily, models: list[onnx.ModelProto]
) -> None:
    found = StoreResources(stored.store.objects.root).under(bound(stored, [gated(stored.build())]))
    agree(found, stored, models)
    sessions = [found.network(network) for network in stored.networks]
    assert all(isinstance(session, BuildSession) for session in sessions)
    assert len({id(session.compiled) for session in sessions if isinstance(session, BuildSession)}) == 1
    assert found.network(stored.networks[0]) is sessions[0]


def test_two_bindings_share_the_sessions_of_one_process(stored: StoredFamily) -> None:
    shared = StoreResources(stored.store.objects.root)
    build = stored.build()
    first, second = (shared.under(bound(stored, [gated(build)])) for _ in range(2))
    assert first is not second
    assert first.network(stored.networks[1]) is second.network(stored.networks[1])


def test_without_a_binding_networks_run_exactly(stored: StoredFamily, models: list[onnx.ModelProto]) -> None:
    shared = StoreResources(stored.store.objects.root)
    assert shared.under(None) is shared
    agree(shared, stored, models)
    elsewhere = shared.under(Binding(machine={}, plans={}, stages=()))
    agree(elsewhere, stored, models)
    assert isinstance(elsewhere, BoundResources)
    assert elsewhere.networks(stored.networks) is None


def test_an_onnx_file_that_was_not_opened_runs_as_it_is(
    stored: StoredFamily, models: list[onnx.ModelProto]
) -> None:
    digest = str(stored.store.objects.put(models[1].SerializeToString()))
    fed = image(models[1], 1)
    shared = StoreResources(stored.store.objects.root)
    for found in (shared, shared.under(bound(stored, [gated(stored.build())]))):
        np.testing.assert_array_equal(found.network(digest).run(fed)[0], run(models[1], fed)[0])


def test_where_an_engine_is_missing_the_next_choice_runs_and_that_is_said_once(
    stored: StoredFamily,
    models: list[onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ways, "engine_available", lambda name: name == "onnxruntime")
    choices = [gated(stored.build("openvino", "bf16"), "openvino", "bf16"), gated(stored.build())]
    with caplog.at_level(logging.WARNING):
        found = StoreResources(stored.store.objects.root).under(bound(stored, choices))
        agree(found, stored, models)
    said = [record.message for record in caplog.records]
    assert said == ["openvino is not installed here: networks bound to openvino bf16 run on onnxruntime fp32"]


def test_where_no_engine_of_a_network_is_installed_it_runs_exactly(
    stored: StoredFamily, models: list[onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "engine_available", lambda name: False)
    choices = [gated(stored.build("openvino", "bf16"), "openvino", "bf16")]
    agree(StoreResources(stored.store.objects.root).under(bound(stored, choices)), stored, models)


@pytest.mark.skipif(engine.channel_block() < 2, reason="onnxruntime has no blocks of channels here")
def test_a_build_for_another_processor_gives_way_to_the_usual_one(
    stored: StoredFamily, models: list[onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = [gated(stored.build())]
    made = NetworkLoader(stored.store.objects).compiled(choices[0].build).build
    assert made.channel_block == engine.channel_block()
    monkeypatch.setattr(engine, "channel_block", lambda: 4 * made.channel_block)
    found = StoreResources(stored.store.objects.root).under(bound(stored, choices))
    agree(found, stored, models)
    session = found.network(stored.networks[0])
    assert isinstance(session, BuildSession)
    assert session.compiled.build.channel_block == 0


@pytest.mark.skipif(engine.channel_block() < 2, reason="onnxruntime has no blocks of channels here")
def test_a_build_of_another_version_gives_way_to_the_usual_one(
    stored: StoredFamily, models: list[onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = broken(stored)
    monkeypatch.setattr(engine, "runtime_version", lambda: "0.1")
    agree(StoreResources(stored.store.objects.root).under(bound(stored, [gated(digest)])), stored, models)


@pytest.mark.skipif(engine.channel_block() < 2, reason="onnxruntime has no blocks of channels here")
def test_a_build_that_should_load_and_does_not_is_an_error_that_is_logged(
    stored: StoredFamily, caplog: pytest.LogCaptureFixture
) -> None:
    found = StoreResources(stored.store.objects.root).under(bound(stored, [gated(broken(stored))]))
    with pytest.raises(KernelError):
        found.network(stored.networks[0])
    assert ["cannot be loaded" in record.message for record in caplog.records] == [True]


def broken(stored: StoredFamily) -> Digest:
    """A build for this machine whose graph is none."""
    made = NetworkLoader(stored.store.objects).compiled(str(stored.build())).build
    damaged = msgspec.structs.replace(made, graph=str(stored.store.objects.put(b"no graph")))
    return stored.store.objects.put(damaged.to_bytes())


def test_an_engine_that_cannot_be_imported_gives_way_to_the_next_choice(
    stored: StoredFamily,
    models: list[onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "models.engines.openvino", None)
    monkeypatch.setattr(registry, "_broken", set())
    monkeypatch.setattr(registry, "_installed", lambda name: True)
    choices = [gated(stored.build("openvino", "bf16"), "openvino", "bf16"), gated(stored.build())]
    agree(StoreResources(stored.store.objects.root).under(bound(stored, choices)), stored, models)
    assert "openvino cannot be imported" in caplog.records[0].message
    assert not registry.engine_available("openvino")


def test_on_another_machine_networks_run_in_fp32_and_that_is_said_once(
    stored: StoredFamily,
    models: list[onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ways, "engine_available", lambda name: True)
    never = gated(Digest.of(b"a build in int8"), "onnxruntime", "int8")
    binding = bound(stored, [never, gated(stored.build())])
    elsewhere = msgspec.structs.replace(binding, machine={**machine_facts(), "cpu": "another"})
    agree(StoreResources(stored.store.objects.root).under(elsewhere), stored, models)
    assert len([record for record in caplog.records if "another machine" in record.message]) == 1
    with pytest.raises(ObjectMissing):  # here it is the first that runs
        StoreResources(stored.store.objects.root).under(binding).network(stored.networks[0])


def test_sessions_of_builds_that_no_binding_in_use_names_are_dropped(
    stored: StoredFamily, models: list[onnx.ModelProto]
) -> None:
    shared = StoreResources(stored.store.objects.root)
    opaque = str(stored.store.objects.put(models[1].SerializeToString()))
    old = shared.under(bound(stored, [gated(stored.build())]))
    dropped = weakref.ref(old.network(stored.networks[0]).compiled.session)  # type: ignore[attr-defined]
    forgotten = weakref.ref(old.network(opaque))
    new = bound(stored, [gated(stored.build(across=True))])
    held = [shared.under(new)]
    gc.collect()
    assert dropped() is not None, "the old binding is in use"
    assert forgotten() is not None
    del old
    held.append(shared.under(new))
    gc.collect()
    assert dropped() is None
    assert forgotten() is None
    agree(held[0], stored, models)


def test_under_one_binding_a_network_never_runs_from_other_numbers(tmp_path: Path) -> None:
    models = [unet(3, (16, 32)), unet(3, (16, 32), norm="folded", norm_seed=7)]
    stored = StoredFamily(tmp_path, models)
    (_, folded), root = stored.networks, stored.store.objects.root
    before = Binding(machine=machine_facts(), plans={}, stages=())
    fed = {"x0": image(models[1], 1)["input"]}
    running = StoreResources(root).under(before)
    first = running.network(folded).run(fed)[0]
    assert verify_variant(stored.store, Digest.parse(folded)).passed
    np.testing.assert_array_equal(running.network(folded).run(fed)[0], first)
    with pytest.raises(KernelError, match="were let go"):
        StoreResources(root).under(before).network(folded)
    ours = StoreResources(root).network(folded).run(fed)[0]
    assert largest_difference([ours], [first]) < 1e-5


def test_a_damaged_tensor_is_noticed(tmp_path: Path) -> None:
    stored = StoredFamily(tmp_path, [unet(3, (16, 48))])
    build = stored.build()
    root = stored.store.objects.root
    at = next(iter(NetworkLoader(stored.store.objects).compiled(str(build)).build.tensors.values()))
    digest = Digest.parse(at.blob)
    path = root / "objects" / digest.sha256[:2] / f"{digest.sha256}-{digest.size}"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(ObjectCorrupt):
        StoreResources(root).under(bound(stored, [gated(build)])).network(stored.networks[0])


def test_a_network_that_is_not_in_the_store_is_missing(stored: StoredFamily) -> None:
    with pytest.raises(ObjectMissing):
        StoreResources(stored.store.objects.root).network(str(Digest.of(b"never put")))


def test_members_with_filters_of_their_own_keep_few_sessions(tmp_path: Path) -> None:
    base = unet(3, (16, 48))
    models = [base, *(low_rank_variant(base, seed) for seed in range(PRIVATE_SESSIONS + 2))]
    stored = StoredFamily(tmp_path, models)
    loader = NetworkLoader(stored.store.objects)
    build = str(stored.build(low_rank="materialised"))
    fed = image(base, 1)["input"]
    loader.compiled(build)
    gc.collect()
    before = {id(o) for o in gc.get_objects() if isinstance(o, OnnxSession)}
    for network, model in zip(stored.networks, models, strict=True):
        member = loader.member(build, network, stored.variant(network))
        assert largest_difference(member.run({"x0": fed}), run(model, {"input": fed})) < 1e-4
    del member
    gc.collect()
    private = [o for o in gc.get_objects() if isinstance(o, OnnxSession) and id(o) not in before]
    assert len(private) == PRIVATE_SESSIONS, "some are still held"


def test_what_is_kept_is_made_once_and_bounded() -> None:
    made: list[int] = []
    kept: Kept[bytes] = Kept(most=100, size=len)

    def make(key: int) -> bytes:
        made.append(key)
        return bytes(40)

    threads = [threading.Thread(target=lambda: kept.get(1, lambda: make(1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    for key in (2, 1, 3):  # 2 is the longest unused when 3 comes
        kept.get(key, lambda key=key: make(key))  # type: ignore[misc]
    assert made == [1, 2, 3]
    assert len(kept) == 2
    kept.get(1, lambda: make(1))
    assert made == [1, 2, 3]
    kept.get(2, lambda: make(2))
    assert made == [1, 2, 3, 2]


def test_who_asks_while_a_thing_is_put_by_does_not_make_it_again() -> None:
    class Slow(Kept[int]):
        def _put(self, key: Hashable, thing: int) -> int:
            time.sleep(0.05)
            return super()._put(key, thing)

    made: list[int] = []
    kept = Slow()

    def make() -> int:
        made.append(1)
        return 3

    first = threading.Thread(target=lambda: kept.get("x", make))
    first.start()
    while not made:
        time.sleep(0.001)
    assert kept.get("x", make) == 3
    first.join()
    assert made == [1]


def test_what_could_not_be_made_is_tried_again() -> None:
    kept: Kept[int] = Kept()

    def fail() -> int:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        kept.get("x", fail)
    assert kept.get("x", lambda: 3) == 3


def test_a_worker_lets_go_of_what_older_bindings_ran_on(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    names = [
        str(store.put(Binding(machine=machine_facts(), plans={str(n): "p"}, stages=()).to_bytes()))
        for n in range(BINDINGS + 1)
    ]
    worker = WorkerResources(tmp_path)
    first = weakref.ref(worker.under(names[0]))
    for name in names[1:-1]:
        worker.under(name)
    gc.collect()
    assert first() is not None
    worker.under(names[-1])
    gc.collect()
    assert first() is None

"""Statistics of a store add up, and say what every network costs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from object_store.opening import Store, open_store
from planner.names import network_name
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from planner.networks.structure import Opened
from planner.reports.stats import store_stats
from planner.stored_records import Kind
from tests.networks import unet
from tests.planner_cases import compile_fakes, things

CHANNELS = (16, 32, 64)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def opened_unet(folder: Path, norm_seed: int | None = None) -> Opened:
    path = folder / "network.onnx"
    onnx.save(unet(3, CHANNELS, norm_seed=norm_seed), path)
    return open_network(path)


def add(store: Store, name: str, opened: Opened) -> str:
    digest = register(store, opened).network
    store.names.set(network_name(name), digest)
    return str(digest)


def parameter_bytes(opened: Opened) -> int:
    return sum(tensor.nbytes for tensor in opened.structure.tensors.values())


def test_every_object_is_counted_once_and_under_one_kind(store: Store, tmp_path: Path) -> None:
    compile_fakes(store, [things("a"), things("b", above=2.0)])
    add(store, "site-a", opened_unet(tmp_path))
    add(store, "site-b", opened_unet(tmp_path, norm_seed=5))
    stats = store_stats(store)
    digests = list(store.objects)
    assert stats.objects == len(digests)
    assert stats.bytes == sum(digest.size for digest in digests)
    assert stats.kinds["plans"].objects == 2
    assert stats.kinds["bindings"].objects == 1
    assert stats.kinds["structures"].objects == 1
    assert stats.kinds["packs"].objects == 2
    assert stats.kinds["tensors"].objects > 3
    assert stats.kinds["opaque networks"].objects == 0
    assert stats.index_bytes > 0


def test_a_variant_adds_little_and_the_base_all_its_tensors(store: Store, tmp_path: Path) -> None:
    base = opened_unet(tmp_path)
    first = add(store, "site-a", base)
    for seed in range(5, 9):
        add(store, f"site-{seed}", opened_unet(tmp_path, norm_seed=seed))
    stats = store_stats(store)
    by_name = {network.names: network for network in stats.networks}
    alone = parameter_bytes(base)
    assert {network.family for network in stats.networks} == {first}
    assert all(alone < network.alone_bytes < alone * 1.2 for network in stats.networks)
    assert by_name[("site-a",)].adds_bytes > alone * 0.9
    for seed in range(5, 9):
        assert by_name[(f"site-{seed}",)].adds_bytes < alone * 0.1
    assert stats.networks[0].names == ("site-a",)
    assert stats.logical_bytes == sum(network.alone_bytes for network in stats.networks)
    assert stats.physical_bytes < 1.5 * alone
    kinds: tuple[Kind, ...] = ("tensors", "differences", "packs", "structures", "records")
    earlier = sum(stats.kinds[kind].bytes for kind in kinds) - stats.physical_bytes
    assert 0 <= earlier < 1000  # what the family's name stood for before


def test_two_unrelated_networks_share_nothing_but_equal_bytes(store: Store, tmp_path: Path) -> None:
    add(store, "one", opened_unet(tmp_path))
    before = store_stats(store)
    path = tmp_path / "other.onnx"
    onnx.save(unet(77, CHANNELS), path)
    other = open_network(path)
    add(store, "other", other)
    after = store_stats(store)
    assert after.physical_bytes > before.physical_bytes + 0.9 * parameter_bytes(other)
    assert len({network.family for network in after.networks}) == 2


def test_what_no_name_leads_to_is_unused(store: Store) -> None:
    compile_fakes(store, [things("a")])
    clean = store_stats(store)
    assert sum(amount.unused_bytes for amount in clean.kinds.values()) == 0
    store.objects.put(np.arange(1000, dtype=np.int32).tobytes())
    compile_fakes(store, [things("a", above=7.0)])
    stats = store_stats(store)
    assert stats.kinds["other"].unused_bytes == 4000
    assert stats.kinds["plans"].unused_bytes == 0  # the name's history leads there: it can be rolled back to


def test_bytes_that_only_look_like_a_record_are_other(store: Store) -> None:
    for content in (b"{", b'{"format":"lightbox.network/1"}', b'{"series":[3]}', b"{}" * 10, b""):
        store.objects.put(content)
    stats = store_stats(store)
    assert stats.kinds["other"].objects == stats.objects == 5
    assert stats.networks == ()

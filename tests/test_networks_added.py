"""Networks come into a store by themselves or with a pipeline, are listed, and go when nothing uses them."""

import json
import subprocess
from pathlib import Path

import pytest

from loadtest.server import lightbox, lightbox_command
from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.errors import ObjectMissing
from object_store.opening import Store
from planner.names import plan_name, variant_name
from planner.networks.families.known import add_network, forget_networks, known_networks
from planner.references import references
from planner.resources import StoreResources
from tests.networks import largest_difference, saved, unet
from tests.networks_in_pipelines import answers, compiled, expected, network_in, promoted, with_network
from tests.planner_cases import binding_of


def test_networks_of_no_plan_are_forgotten_and_their_bytes_freed(store: Store, tmp_path: Path) -> None:
    kept, gone = unet(3), unet(4)
    (one,) = compiled(store, with_network(saved(tmp_path, kept, "kept"), "kept"))
    (other,) = compiled(store, with_network(saved(tmp_path, gone, "gone"), "gone"))
    store.names.delete(plan_name("gone"))
    compiled(store, with_network(tmp_path / "kept.onnx", "kept"))
    assert forget_networks(store, older_than_s=3600.0) == ()
    assert forget_networks(store, older_than_s=-1.0) == (network_in(other.plan),)
    store.names.shorten_history(1)
    before = sum(digest.size for digest in store.objects)
    collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    assert sum(digest.size for digest in store.objects) < 0.7 * before
    resources = StoreResources(store.objects.root)
    with pytest.raises(ObjectMissing):
        resources.network(network_in(other.plan))
    ours = answers(resources.under(binding_of(store)), network_in(one.plan), kept)
    assert largest_difference(ours, expected(kept)) <= 1e-5


def test_a_network_one_may_roll_back_to_is_not_forgotten(store: Store, tmp_path: Path) -> None:
    (before,) = compiled(store, with_network(saved(tmp_path, unet(3), "before")))
    promoted(store, "net")
    compiled(store, with_network(saved(tmp_path, unet(4), "after")))
    promoted(store, "net")
    assert forget_networks(store, older_than_s=-1.0) == ()
    assert store.names.get(variant_name(Digest.parse(network_in(before.plan)).sha256)) is not None


def test_networks_are_added_and_listed_without_a_pipeline(store: Store, tmp_path: Path) -> None:
    first = add_network(store, saved(tmp_path, unet(3, (16, 32)), "one"), "one")
    second = add_network(store, saved(tmp_path, unet(3, (16, 32), norm_seed=7), "two"), "two")
    assert first.new_base
    assert not second.new_base
    assert second.bytes_added < 0.6 * first.bytes_added
    known = known_networks(store)
    assert [(k.names, k.network == k.family) for k in known] == [(("one",), True), (("two",), False)]
    assert forget_networks(store, older_than_s=-1.0) == ()


def test_the_network_commands_say_what_is_shared(tmp_path: Path) -> None:
    saved(tmp_path, unet(3), "base")
    saved(tmp_path, unet(3, norm_seed=7), "site")
    (tmp_path / "junk.onnx").write_bytes(b"\x07junk")
    place = ["--store", str(tmp_path / "store"), "--json"]
    added = json.loads(
        lightbox("network", "add", *(str(tmp_path / f"{n}.onnx") for n in ("base", "site")), *place)
    )
    assert [row["name"] for row in added] == ["base", "site"]
    assert added[0]["family"] == added[1]["family"]
    assert [row["new_family"] for row in added] == [True, False]
    listed = json.loads(lightbox("network", "list", *place))
    assert [row["names"] for row in listed] == [["base"], ["site"]]
    junk = [*lightbox_command(), "network", "add", str(tmp_path / "junk.onnx"), *place]
    refused = subprocess.run(junk, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "junk.onnx" in json.loads(refused.stdout)[0]["error"]

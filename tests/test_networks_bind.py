"""Builds are made once, and made again where something of them is gone."""

import os
from pathlib import Path

import pytest

from object_store.digest import Digest
from planner.names import FAMILIES
from planner.networks.bind import built
from planner.networks.families.members import variants
from planner.networks.keeping import NetworkReader, network_references
from planner.networks.records import Build
from planner.networks.tuned import Tuned, Way, usable
from tests.networks import private_variant, unet
from tests.networks_in_store import StoredFamily


@pytest.fixture
def stored(tmp_path: Path) -> StoredFamily:
    return StoredFamily(tmp_path, [unet(3, (16, 48), norm_seed=site) for site in range(2)])


def made(stored: StoredFamily) -> Digest:
    (named,) = stored.store.names.items(FAMILIES).values()
    return built(stored.store, named, stored.family)


def parts_of(stored: StoredFamily, digest: Digest) -> list[Digest]:
    """Everything that a build and the one it names refer to."""
    found = [digest]
    for reference in network_references(stored.store.objects.get(digest)):
        is_build = stored.store.objects.get(reference).startswith(b'{"')
        found += parts_of(stored, reference) if is_build else [reference]
    return found


def path_of(stored: StoredFamily, digest: Digest) -> Path:
    root = stored.store.objects.root
    return root / "objects" / digest.sha256[:2] / f"{digest.sha256}-{digest.size}"


def test_a_build_that_is_found_again_is_safe_from_garbage_collection(stored: StoredFamily) -> None:
    build = made(stored)
    for part in parts_of(stored, build):
        os.utime(path_of(stored, part), (1, 1))
    assert made(stored) == build
    assert not [part for part in parts_of(stored, build) if stored.store.objects.unused_since(part, 1000)]


def test_a_build_of_which_a_graph_was_collected_is_made_again(stored: StoredFamily) -> None:
    build = made(stored)
    reader = NetworkReader(stored.store.objects, stored.store.names)
    found: Build = reader.read(build, Build)
    graphs = [found.graph]
    if found.otherwise:
        other: Build = reader.read(found.otherwise, Build)
        graphs += [other.graph, found.otherwise]
    for graph in graphs:
        path_of(stored, Digest.parse(graph)).unlink()
        assert made(stored) == build
        assert not stored.store.objects.missing(parts_of(stored, build))


def test_faster_ways_are_for_members_without_large_tensors_of_their_own(tmp_path: Path) -> None:
    base, site = (unet(3, (16, 32, 64), norm_seed=seed) for seed in (None, 7))
    stored = StoredFamily(tmp_path, [base, site, private_variant(site, 1)])
    way = Way(
        build=str(made(stored)),
        engine="onnxruntime",
        precision="int8",
        lifted=stored.family.lifted,
        seconds=1.0,
        baseline_seconds=2.0,
    )
    tuned = Tuned(family=stored.family.base, ways=(way,))
    known = variants(stored.store)
    found = [usable(stored.store, tuned, stored.family, known[network]) for network in stored.networks]
    assert found == [(way,), (way,), ()]

"""Builds are packed for a machine's processor and engines, and made again where these have changed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from object_store.digest import Digest
from planner.machine import machine_facts
from planner.names import FAMILIES
from planner.networks.bind import built
from planner.networks.keeping import NetworkReader
from planner.networks.records import Build
from tests.networks import unet
from tests.networks_in_store import StoredFamily

UPDATE = "99.0"


@pytest.fixture
def updated(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """To pretend another version; what is known of the machine is forgotten afterwards."""
    with monkeypatch.context() as patched:
        yield patched
    machine_facts.cache_clear()


def update(patched: pytest.MonkeyPatch) -> None:
    """As after `pip install --upgrade onnxruntime`, in a new process."""
    patched.setattr("planner.machine._version", lambda package: UPDATE)
    for user in ("models.engines.onnxruntime", "planner.networks.building.pack"):
        patched.setattr(f"{user}.runtime_version", lambda: UPDATE)
    machine_facts.cache_clear()


def made(stored: StoredFamily) -> tuple[Digest, Build]:
    (named,) = stored.store.names.items(FAMILIES).values()
    digest = built(stored.store, named, stored.family)
    build: Build = NetworkReader(stored.store.objects, stored.store.names).read(digest, Build)
    return digest, build


def test_a_packed_build_is_made_again_for_another_onnxruntime(
    tmp_path: Path, updated: pytest.MonkeyPatch
) -> None:
    stored = StoredFamily(tmp_path, [unet(3, (16, 48), norm_seed=site) for site in range(2)])
    before, packed = made(stored)
    if not packed.channel_block:
        pytest.skip("onnxruntime packs nothing on this machine")
    update(updated)
    after, anew = made(stored)
    assert after != before
    assert anew.runtime == UPDATE
    assert stored.loader.compiled(str(after)).build.channel_block == packed.channel_block
    assert made(stored)[0] == after


def test_the_builds_of_two_machines_with_one_store_do_not_replace_each_other(
    tmp_path: Path, updated: pytest.MonkeyPatch
) -> None:
    stored = StoredFamily(tmp_path, [unet(3, (16, 48), norm_seed=site) for site in range(2)])
    here, _ = made(stored)
    update(updated)
    made(stored)
    updated.undo()
    machine_facts.cache_clear()
    assert made(stored)[0] == here

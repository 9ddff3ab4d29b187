"""How long what tuning found is kept: by machine, by member, by plan and by family."""

import platform

import pytest

from object_store.digest import Digest
from object_store.opening import Store
from planner.binding import Binding
from planner.machine import gates_id, machine_facts, machine_id
from planner.names import plan_name, promoted_name
from planner.networks.bind import built
from planner.networks.families.known import forget_networks
from planner.networks.tuned import Search, Tuned, recorded_gates
from planner.ways import made_here
from tests.networks_in_pipelines import network_in, promoted
from tests.tuning_cases import NET, compiled, found_bf16, only_family, way


def search(asked: str, *ways: str) -> Search:
    return Search(asked=asked, budget_s=1.0, ways=ways, tried=())


def test_ways_that_no_member_runs_in_go_with_the_searches_that_found_them() -> None:
    used, unused, new = (way(Digest.of(name)) for name in (b"used", b"unused", b"new"))
    tuned = Tuned(family="f", ways=(), searches=())
    tuned = tuned.with_search(search("first", used.build), [used], None)
    tuned = tuned.with_search(search("second", unused.build), [unused], None)
    assert {way.build for way in tuned.ways} == {used.build, unused.build}
    tuned = tuned.with_search(search("third", new.build), [new], {used.build})
    assert {way.build for way in tuned.ways} == {used.build, new.build}
    assert [search.asked for search in tuned.searches] == ["first", "third"]
    assert tuned.remembered("first", 1.0)
    assert not tuned.remembered("first", 2.0)


def test_an_update_of_python_does_not_forget_what_was_found_but_one_of_an_engine_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine_facts.cache_clear()
    before = (machine_id(), gates_id())
    binding = Binding(machine=dict(machine_facts()), plans={}, stages=())
    try:
        major, minor, _ = platform.python_version_tuple()
        with monkeypatch.context() as patched:
            patched.setattr(platform, "python_version_tuple", lambda: (major, minor, "99"))
            patched.setattr(platform, "python_version", lambda: f"{major}.{minor}.99")
            machine_facts.cache_clear()
            assert (machine_id(), gates_id()) == before
        with monkeypatch.context() as patched:
            patched.setattr(platform, "python_version_tuple", lambda: (major, "99", "0"))
            machine_facts.cache_clear()
            assert machine_id() != before[0]
            assert gates_id() == before[1]
            assert made_here(binding)
        with monkeypatch.context() as patched:
            patched.setattr("planner.machine._version", lambda package: "99.0")
            machine_facts.cache_clear()
            assert gates_id() != before[1]
            assert not made_here(binding)
    finally:
        machine_facts.cache_clear()


def test_a_build_is_made_once_for_a_family_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(store, NET)
    family = only_family(store)
    digest = store.objects.put(family.to_bytes())
    first = built(store, digest, family)
    assert first in store.objects

    def again(*_: object, **options: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("planner.networks.building.build.build_family", again)
    assert built(store, digest, family) == first
    with pytest.raises(AssertionError, match="made again"):
        built(store, store.objects.put(b"another family"), family)


def test_what_was_found_is_forgotten_with_the_plan_and_the_family(store: Store) -> None:
    (net,) = compiled(store, NET)
    found_bf16(store)
    promoted(store, NET)
    assert recorded_gates(store, str(net.digest), network_in(net.plan)) is not None
    forget_networks(store, older_than_s=-1.0)
    assert recorded_gates(store, str(net.digest), network_in(net.plan)) is not None
    store.names.delete(plan_name(NET))
    store.names.delete(promoted_name("local", NET))
    assert forget_networks(store, older_than_s=-1.0) == (network_in(net.plan),)
    assert recorded_gates(store, str(net.digest), network_in(net.plan)) is None
    assert not any(name.startswith("precision/") for name in store.names.items())

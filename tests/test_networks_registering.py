"""Registering a variant: what is hashed when, and what is left where it is cut short."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from object_store.digest import Digest
from object_store.errors import StoreFull
from object_store.opening import Store, open_store
from planner.names import EXACTS, FAMILIES, VARIANTS
from planner.networks.families import register as registering
from planner.networks.families.bases import Base, read_base
from planner.networks.families.filters import filters_of
from planner.networks.families.members import compare, families
from planner.networks.families.register import register
from planner.networks.families.unfold import unfold
from planner.networks.keeping import NetworkReader, is_large
from planner.networks.structure import Opened
from tests.canonical_networks import same_bits, unet
from tests.power_cut import cut_short


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def base_of(store: Store, network: Digest, opened: Opened) -> Base:
    reader = NetworkReader(store.objects, store.names)
    base = read_base(reader, network, opened.structure, filters_of(opened.structure))
    assert base is not None
    return base


def contiguous(opened: Opened) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array) for name, array in opened.tensors.items()}


def test_every_tensor_that_differs_is_told_before_the_first_is_unfolded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, other = unet(1, norms=1, folded=True), unet(1, norms=2, folded=True)
    first = register(store, base)
    known, tensors = base_of(store, first.network, base), contiguous(other)
    large = [name for name in base.structure.tensor_names() if is_large(base.structure, name)]
    differing = [name for name in large if base.tensors[name].tobytes() != tensors[name].tobytes()]
    assert differing
    events: list[str] = []

    def noted(filter_: Any, *arguments: Any) -> Any:
        if filter_.name in large:
            events.append(f"unfold {filter_.name}")
        return unfold(filter_, *arguments)

    monkeypatch.setattr("planner.networks.families.members.unfold", noted)
    filters = filters_of(base.structure)
    found = compare(base.structure, filters, known, tensors, lambda name: events.append(f"differs {name}"))
    assert found is not None
    assert events == [f"differs {name}" for name in differing] + [f"unfold {name}" for name in differing]


def test_how_many_threads_hash_changes_nothing_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[dict[str, Digest], set[Digest]]] = []
    for threads in (1, 4):
        monkeypatch.setattr(registering, "_HASHING", threads)
        with open_store(tmp_path / f"store-{threads}") as store:
            for norms in (1, 2, 3):
                register(store, unet(1, norms=norms, folded=True))
            kept.append((store.names.items(), set(store.objects)))
    assert kept[0] == kept[1]


def test_a_folded_variant_takes_its_names_in_one_change(store: Store) -> None:
    register(store, unet(1, norms=1, folded=True))
    register(store, unet(1, norms=2, folded=True))
    before = store.names.sequence()
    register(store, unet(1, norms=3, folded=True))
    assert store.names.sequence() == before + 1


def test_a_variant_whose_naming_fails_is_not_registered_at_all_and_can_be_brought_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, other = unet(1, norms=1, folded=True), unet(1, norms=2, folded=True)
    register(store, base)
    before = store.names.items()
    append, calls = type(store.names)._append, []

    def fails_at_the_last(names: Any, connection: Any, name: str, *rest: Any, **more: Any) -> None:
        calls.append(name.partition("/")[0] + "/")
        if name.startswith(VARIANTS):
            raise StoreFull(store.objects.root)
        append(names, connection, name, *rest, **more)

    monkeypatch.setattr(type(store.names), "_append", fails_at_the_last)
    with pytest.raises(StoreFull):
        register(store, other)
    assert calls == [FAMILIES, EXACTS, VARIANTS]
    assert store.names.items() == before
    monkeypatch.undo()
    done = register(store, other)
    assert not done.new_base
    tensors = NetworkReader(store.objects, store.names).tensors(done.network)
    assert {n: a.tobytes() for n, a in tensors.items()} == {
        n: np.ascontiguousarray(a).tobytes() for n, a in other.tensors.items()
    }


@pytest.mark.parametrize("member", [unet(1), unet(1, norms=2, folded=True)])
def test_a_registration_cut_short_at_any_write_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: Opened
) -> None:
    base = unet(1, norms=1, folded=True)
    for allowed in range(20):
        with open_store(tmp_path / str(allowed)) as store:
            register(store, base)
            cut = _cut_short(monkeypatch, store, allowed, member)
            done = register(store, member)
            assert done.family != done.network
            assert same_bits(NetworkReader(store.objects, store.names).tensors(done.network), member)
            assert len(families(store)) == 1
            with open_store(tmp_path / f"{allowed} alone") as alone:
                _cut_short(monkeypatch, alone, allowed, base)
                assert register(alone, base).family == register(alone, member).family
        if not cut:
            assert allowed > 0, "no write was ever cut"
            return
    pytest.fail("a registration never came to its end")


def _cut_short(monkeypatch: pytest.MonkeyPatch, store: Store, allowed: int, opened: Opened) -> bool:
    return cut_short(monkeypatch, allowed, ("set_all", "tag"), lambda: register(store, opened))

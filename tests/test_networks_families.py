"""Which networks share a family, what each of them adds, and that order and other networks change nothing."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from object_store.digest import Digest
from object_store.local import LocalStore
from object_store.opening import Store, open_store
from planner.networks.families.filters import filters_of
from planner.networks.families.fingerprint import ALIKE, fingerprint, likeness
from planner.networks.families.members import families, members
from planner.networks.families.register import register
from planner.networks.keeping import NetworkReader, is_large
from planner.networks.records import Family
from planner.networks.structure import Opened
from tests.canonical_networks import Canonical, changed, same_bits, unet


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def the_family(store: Store) -> Family:
    found = families(store)
    assert len(found) == 1
    return next(iter(found.values()))


def large_names(opened: Opened) -> list[str]:
    return [name for name in opened.structure.tensor_names() if is_large(opened.structure, name)]


def affine_names(opened: Opened) -> set[str]:
    return set(opened.tensors) - set(filters_of(opened.structure))


def test_the_first_network_of_a_structure_is_the_base_of_a_family(store: Store) -> None:
    done = register(store, unet(1))
    assert done.new_base
    assert done.family == done.network
    assert the_family(store) == Family(structure=the_family(store).structure, base=str(done.network))


def test_another_normalisation_lifts_its_tensors_and_adds_little(store: Store) -> None:
    base, other = unet(1), unet(1, norms=1)
    first, done = register(store, base), register(store, other)
    assert not done.new_base
    assert done.family == first.network
    lifted = {name for name in base.tensors if not np.array_equal(base.tensors[name], other.tensors[name])}
    assert set(the_family(store).lifted) == lifted < affine_names(base)
    assert the_family(store).scaled == ()
    assert done.kept == {"lifted": len(lifted)}
    assert done.bytes_added < 0.2 * first.bytes_added


@pytest.mark.parametrize("base_folded", [False, True])
def test_a_folded_export_is_unfolded_against_either_kind_of_base(store: Store, base_folded: bool) -> None:
    base, other = unet(1, norms=1, folded=base_folded), unet(1, norms=2, folded=True)
    register(store, base)
    done = register(store, other)
    assert not done.new_base
    folded = {name for name, array in base.tensors.items() if name in filters_of(base.structure)}
    folded -= {name for name in folded if np.array_equal(base.tensors[name], other.tensors[name])}
    assert set(the_family(store).scaled) == folded
    assert set(the_family(store).lifted) <= affine_names(base)
    variant = NetworkReader(store.objects, store.names).variant(done.network)
    assert variant is not None
    assert not variant.exact
    assert variant.tolerance <= 5e-7


def test_a_folded_member_feeds_the_factors_it_would_have_had_unfolded(store: Store) -> None:
    register(store, unet(1, norms=1))
    done = register(store, unet(1, norms=2, folded=True))
    fed = NetworkReader(store.objects, store.names).effective_small(done.network)
    unfolded = unet(1, norms=2)
    for name in fed:
        np.testing.assert_allclose(fed[name], unfolded.tensors[name], rtol=1e-6, err_msg=name)


def test_an_unfolded_export_joins_a_folded_base(store: Store) -> None:
    register(store, unet(1, norms=1, folded=True))
    done = register(store, unet(1, norms=1))
    assert not done.new_base
    reader = NetworkReader(store.objects, store.names)
    for name, array in reader.kept_tensors(done.network).items():
        np.testing.assert_allclose(
            array, unet(1, norms=1, folded=True).tensors[name], rtol=1e-6, atol=1e-7, err_msg=name
        )


@given(
    seed=st.integers(0, 1 << 30),
    rank=st.integers(1, 3),
    share=st.floats(0.001, 0.1),
    norms=st.booleans(),
    folded=st.booleans(),
)
@settings(max_examples=10, deadline=None)
def test_what_makes_a_variant_is_found_and_every_number_comes_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rank: int, share: float, norms: bool, folded: bool
) -> None:
    base, random = unet(seed, norms=seed), np.random.default_rng(seed)
    other = unet(seed, norms=seed + norms, folded=folded)
    names = large_names(base)
    thin, few, scaled = random.choice(names, 3, replace=False)
    array = base.tensors[thin]
    product = random.normal(size=(len(array), rank)) @ random.normal(size=(rank, array.size // len(array)))
    other = changed(other, thin, array + 0.01 * product.reshape(array.shape))
    array = base.tensors[few].copy()
    array.reshape(-1)[random.choice(array.size, int(share * array.size), replace=False)] += 0.1
    other = changed(other, few, array)
    with open_store(tmp_path_factory.mktemp("store")) as store:
        register(store, base)
        done = register(store, other)
        reader = NetworkReader(store.objects, store.names)
        variant = reader.variant(done.network)
        assert variant is not None
        assert variant.family != str(done.network)
        assert (variant.kept[thin], variant.kept[few]) == ("low_rank", "sparse")
        assert variant.own_large == tuple(sorted((thin, few)))
        assert (variant.kept.get(scaled) == "scaled") == folded
        assert the_family(store).low_rank == {thin: rank}
        assert the_family(store).sparse == (few,)
        assert same_bits(reader.tensors(done.network), other)
        kept = reader.kept_tensors(done.network)
        assert np.array_equal(kept[few], other.tensors[few])
        largest = float(np.abs(other.tensors[thin]).max())
        apart = float(np.abs(kept[thin] - other.tensors[thin]).max())
        assert apart <= variant.tolerance * largest * (1 + 1e-6)


@given(seeds=st.lists(st.integers(0, 50), min_size=2, max_size=4, unique=True))
@settings(max_examples=8, deadline=None)
def test_unrelated_networks_are_never_merged(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int]
) -> None:
    with open_store(tmp_path_factory.mktemp("store")) as store:
        done = [register(store, unet(seed, channels)) for seed in seeds for channels in ((8, 32, 64), (4, 8))]
        assert all(one.new_base for one in done)
        assert len(families(store)) == len(done)


def test_a_network_fine_tuned_everywhere_is_a_base_of_its_own(store: Store) -> None:
    base, random = unet(1), np.random.default_rng(0)
    register(store, base)
    tuned = base
    for name in filters_of(base.structure):
        array = base.tensors[name]
        tuned = changed(tuned, name, array * (1 + random.normal(0, 1e-3, array.shape)))
    assert register(store, tuned).new_base


def test_small_networks_of_one_structure_are_not_one_family_for_being_small(store: Store) -> None:
    assert not large_names(unet(1, (4, 8)))
    register(store, unet(1, (4, 8)))
    assert register(store, unet(2, (4, 8))).new_base
    assert not register(store, unet(1, (4, 8), norms=3)).new_base


def test_large_tensors_that_two_bases_have_in_common_are_kept_once(store: Store) -> None:
    base = unet(1)
    name = large_names(base)[2]
    first = register(store, base)
    second = register(store, changed(base, name, np.roll(base.tensors[name], 1, axis=1)))
    assert second.new_base
    small = sum(array.nbytes for array in base.tensors.values()) - sum(
        base.tensors[large].nbytes for large in large_names(base)
    )
    assert second.bytes_added < base.tensors[name].nbytes + 2 * small < first.bytes_added


def with_others(opened: Opened, names: Sequence[str], seed: int = 5) -> Opened:
    """The network with other numbers throughout these tensors."""
    random = np.random.default_rng(seed)
    for name in names:
        opened = changed(opened, name, random.normal(0, 0.1, opened.tensors[name].shape))
    return opened


@pytest.mark.parametrize("folded", [False, True])
def test_a_member_keeps_a_large_tensor_that_is_like_nothing_in_the_base_in_full(
    store: Store, folded: bool
) -> None:
    base, name = unet(1), large_names(unet(1))[0]
    first = register(store, base)
    other = with_others(unet(1, norms=1, folded=folded), [name])
    done = register(store, other)
    assert done.family == first.network
    assert done.kept["stored"] == 1
    assert the_family(store).private == (name,)
    reader = NetworkReader(store.objects, store.names)
    variant = reader.variant(done.network)
    assert variant is not None
    assert variant.kept[name] == "stored"
    assert variant.own_large == (name,)
    assert variant.exact != folded
    weights = reader.weights(done.network)
    assert variant.tensors == {name: str(weights[name])}
    assert weights[name] in store.objects
    assert done.bytes_added >= other.tensors[name].nbytes
    assert same_bits(reader.tensors(done.network), other)
    for kept in (reader.kept_tensors(done.network), reader.tensors_as_kept(done.network)):
        assert kept[name].tobytes() == other.tensors[name].tobytes()


LARGE = large_names(unet(1))


@given(private=st.sets(st.sampled_from(LARGE), min_size=1, max_size=3))
@settings(max_examples=12, deadline=None)
def test_a_network_that_has_more_than_a_tenth_to_itself_is_a_base(
    tmp_path_factory: pytest.TempPathFactory, private: set[str]
) -> None:
    base = unet(1)
    share = sum(base.tensors[name].nbytes for name in private) / sum(
        array.nbytes for array in base.tensors.values()
    )
    with open_store(tmp_path_factory.mktemp("store")) as store:
        register(store, base)
        assert register(store, with_others(base, sorted(private))).new_base == (share > 0.1)


def test_one_and_two_large_tensors_lie_on_either_side_of_a_tenth(store: Store) -> None:
    register(store, unet(1))
    assert not register(store, with_others(unet(1), [LARGE[0]])).new_base
    assert not register(store, with_others(unet(1), [LARGE[3]], seed=6)).new_base
    assert register(store, with_others(unet(1), [LARGE[0], LARGE[3]], seed=7)).new_base


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_bases_that_is_taken_of_which_a_network_shares_more(
    store: Store, order: tuple[int, int]
) -> None:
    both = [LARGE[0], LARGE[3]]
    bases = [unet(1), with_others(unet(1), both)]
    done = {place: register(store, bases[place]) for place in order}
    assert all(one.new_base for one in done.values())
    for near, far in ((0, 1), (1, 0)):
        _, smaller = sorted(both, key=lambda name: -bases[0].tensors[name].nbytes)
        found = register(store, changed(bases[near], smaller, bases[far].tensors[smaller]))
        assert found.family == done[near].network, "the larger tensor would be private"


def test_one_new_head_is_lifted(store: Store) -> None:
    base = unet(1)
    head = list(filters_of(base.structure))[-1]
    register(store, base)
    done = register(store, changed(base, head, base.tensors[head][::-1]))
    assert not done.new_base
    assert the_family(store).lifted == (head,)


def test_among_many_alike_bases_that_with_the_same_large_tensors_is_found(store: Store) -> None:
    base = unet(1)
    name = large_names(base)[2]
    random = np.random.default_rng(0)
    tuned = [
        changed(base, name, base.tensors[name] * (1 + random.normal(0, 1e-4, base.tensors[name].shape)))
        for _ in range(8)
    ]
    done = [register(store, one) for one in tuned]
    assert all(one.new_base for one in done)
    other = unet(1, norms=1)
    for one, registered in zip(tuned, done, strict=True):
        again = register(store, changed(other, name, one.tensors[name]))
        assert again.family == registered.network


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_order_of_registration_changes_no_digest(store: Store, order: tuple[int, ...]) -> None:
    networks = [unet(1), unet(1, norms=1), unet(1, norms=2, folded=True), unet(2)]
    digests = {place: str(register(store, networks[place]).network) for place in order}
    assert [digests[place].partition(":")[2][:12] for place in range(4)] == expected_digests(networks)
    assert len(families(store)) == 2
    reader = NetworkReader(store.objects, store.names)
    assert all(same_bits(reader.tensors(digests[place]), networks[place]) for place in range(4))


def expected_digests(networks: list[Opened]) -> list[str]:
    from planner.networks.keeping import large_tensors, raw_bytes, record_objects

    found = []
    for opened in networks:
        weights = {name: Digest.of(raw_bytes(array)) for name, array in large_tensors(opened).items()}
        found.append(record_objects(opened, weights)[0].sha256[:12])
    return found


def test_registering_again_changes_nothing(store: Store) -> None:
    networks = [unet(1), unet(1, norms=1), unet(1, norms=2, folded=True)]
    first = [register(store, opened) for opened in networks]
    names, objects = store.names.items(), set(store.objects)
    again = [register(store, opened) for opened in networks]
    assert [one.network for one in again] == [one.network for one in first]
    assert [one.family for one in again] == [one.family for one in first]
    assert not any(one.new_base or one.bytes_added for one in again)
    assert (store.names.items(), set(store.objects)) == (names, objects)
    assert all(len(store.names.history(name)) == 1 for name in names if name.startswith("variant/"))


def test_among_many_bases_and_members_no_more_is_read_than_among_few(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Digest] = []

    def watched(verb: Callable[..., Any]) -> Callable[..., Any]:
        def noted(objects: LocalStore, digest: Digest) -> Any:
            read.append(digest)
            return verb(objects, digest)

        return noted

    monkeypatch.setattr(LocalStore, "get", watched(LocalStore.get))
    monkeypatch.setattr(LocalStore, "map", watched(LocalStore.map))
    counts = []
    for step in range(1, 25):
        register(store, unet(step, (4, 8)))
        register(store, unet(1, (4, 8), norms=step))
        read.clear()
        register(store, unet(1, (4, 8), norms=100 + step))
        counts.append(len(read))
    assert len(families(store)) == 24
    assert len(set(counts[1:])) == 1


def test_two_processes_that_register_at_once_share_one_family(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        done = list(processes.map(_register_one, [tmp_path / "store"] * 4, range(4)))
    with open_store(tmp_path / "store") as store:
        assert set(members(store, the_family(store).base)) == set(done)
        assert len(set(done)) == 4
        assert set(the_family(store).lifted) <= affine_names(unet(1))


def _register_one(directory: Path, norms: int) -> str:
    with open_store(directory) as store:
        return str(register(store, unet(1, norms=norms)).network)


def test_a_matrix_product_is_unfolded_as_a_convolution_is(store: Store) -> None:
    def matrix(folded: bool) -> Opened:
        net = Canonical(1, 2, folded=folded)
        weight = net.filters((64, 128), 1)
        if folded:
            net.fold(weight, 1)
        factors = np.ones(128) if folded else net.scale
        value = net.op("Mul", [net.op("MatMul", ["x0", weight]), net.tensor(factors)])
        return net.opened(net.op("Add", [value, net.tensor(np.zeros(128))]), 128)

    register(store, matrix(False))
    done = register(store, matrix(True))
    assert not done.new_base
    assert done.kept["scaled"] == 1
    fed = NetworkReader(store.objects, store.names).effective_small(done.network)
    np.testing.assert_allclose(fed["t1"], matrix(False).tensors["t1"], rtol=1e-6)


def test_fingerprints_tell_variants_from_strangers() -> None:
    def told(opened: Opened) -> str:
        return fingerprint(filters_of(opened.structure), opened.tensors)

    variants = [unet(1, norms=1), unet(1, norms=2, folded=True)]
    strangers = [unet(seed) for seed in range(2, 12)]
    assert likeness([told(one) for one in variants], told(unet(1))).min() > 0.999
    assert likeness([told(one) for one in strangers], told(unet(1))).max() < ALIKE
    assert likeness([], told(unet(1))).shape == (0,)

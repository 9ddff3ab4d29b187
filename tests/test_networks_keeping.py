"""Networks come back bit for bit; verification decides what is let go, and garbage collection obeys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.onnxruntime import OnnxSession
from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.errors import ObjectCorrupt, ObjectMissing
from object_store.opening import Store, open_store
from planner.errors import Unreadable
from planner.names import exact_name, variant_name
from planner.networks.building.build import plain
from planner.networks.families import verify
from planner.networks.families.bases import npz
from planner.networks.families.forget import forget_unused
from planner.networks.families.members import families, variants
from planner.networks.families.register import register
from planner.networks.families.verify import compared, largest_difference, verify_variant
from planner.networks.keeping import (
    NetworkReader,
    is_large,
    network_references,
    packed_small,
    unpacked_small,
)
from planner.networks.records import Build, Family, TensorAt, Variant
from planner.networks.structure import Opened, Port, Structure, TensorType
from tests.canonical_networks import changed, unet


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def reader(store: Store) -> NetworkReader:
    return NetworkReader(store.objects, store.names)


def collect(store: Store) -> set[Digest]:
    """Everything that nothing refers to is deleted at once; returns what is left."""
    collect_garbage(
        store.objects, store.names, lambda digest, data: network_references(data), older_than_s=-10
    )
    return set(store.objects)


def comes_back(store: Store, network: Digest, opened: Opened) -> bool:
    found = reader(store).tensors(network)
    return found.keys() == opened.tensors.keys() and all(
        found[name].tobytes() == opened.tensors[name].tobytes() for name in found
    )


def low_rank_member(seed: int = 0, size: float = 0.05) -> Opened:
    opened, random = unet(1), np.random.default_rng(seed)
    name = max(opened.tensors, key=lambda name: opened.tensors[name].size)
    array = opened.tensors[name]
    product = random.normal(size=(len(array), 2)) @ random.normal(size=(2, array.size // len(array)))
    return changed(opened, name, array + size * product.reshape(array.shape))


def private_member(*, folded: bool = False) -> Opened:
    opened, random = unet(1, norms=2, folded=folded), np.random.default_rng(3)
    name = next(name for name in opened.tensors if is_large(opened.structure, name))
    return changed(opened, name, random.normal(0, 0.1, opened.tensors[name].shape))


def test_a_network_that_was_put_comes_back(store: Store) -> None:
    opened = unet(1)
    network = register(store, opened).network
    assert comes_back(store, network, opened)
    assert reader(store).structure(network) == opened.structure
    assert register(store, opened).network == network


@pytest.mark.parametrize(
    "member",
    [
        unet(1, norms=1),
        unet(1, norms=2, folded=True),
        low_rank_member(),
        private_member(),
        private_member(folded=True),
        unet(2),
    ],
)
def test_every_kind_of_member_comes_back_bit_for_bit_after_garbage_collection(
    store: Store, member: Opened
) -> None:
    base = register(store, unet(1)).network
    network = register(store, member).network
    collect(store)
    assert comes_back(store, network, member)
    assert comes_back(store, base, unet(1))


def test_a_reader_without_names_finds_them_beside_the_objects(store: Store) -> None:
    register(store, unet(1))
    member = unet(1, norms=2, folded=True)
    network = register(store, member).network
    found = NetworkReader(store.objects).tensors(str(network))
    assert all(found[name].tobytes() == member.tensors[name].tobytes() for name in member.tensors)


def test_a_verified_folded_member_lets_its_imported_numbers_go(store: Store) -> None:
    register(store, unet(1, norms=1, folded=True))
    before = sum(digest.size for digest in collect(store))
    member = unet(1, norms=2, folded=True)
    network = register(store, member).network
    unverified = sum(digest.size for digest in collect(store)) - before
    found = verify_variant(store, network)
    assert found.passed
    assert found.inputs == 3
    assert found.largest_difference <= 1e-5
    verified = sum(digest.size for digest in collect(store)) - before
    assert verified < 0.6 * unverified
    assert store.names.get(exact_name(network.sha256)) is None
    kept = reader(store).tensors_as_kept(network)
    for name, array in member.tensors.items():
        assert np.abs(kept[name] - array).max() <= 1e-6 * np.abs(array).max()
    assert reader(store).variant(network) == variants(store)[str(network)]
    assert verify_variant(store, network) == found


def test_a_verified_adapter_lets_its_imported_numbers_go(store: Store) -> None:
    register(store, unet(1))
    member = low_rank_member()
    done = register(store, member)
    assert done.kept == {"low_rank": 1}
    large = max(array.nbytes for array in member.tensors.values())
    assert any(digest.size == large for digest in collect(store) - named_by_base(store))
    assert verify_variant(store, done.network).passed
    assert not any(digest.size == large for digest in collect(store) - named_by_base(store))
    collect(store)
    assert reader(store).tensors_as_kept(done.network).keys() == member.tensors.keys()


@pytest.mark.parametrize("folded", [False, True])
def test_a_verified_member_keeps_the_tensors_that_are_its_own(store: Store, folded: bool) -> None:
    register(store, unet(1))
    member = private_member(folded=folded)
    done = register(store, member)
    assert done.kept["stored"] == 1
    found = verify_variant(store, done.network)
    assert found.passed
    assert found.inputs == 3
    collect(store)
    variant = reader(store).variant(done.network)
    assert variant is not None
    assert variant.family != str(done.network)
    (name,) = variant.tensors
    assert reader(store).tensors_as_kept(done.network)[name].tobytes() == member.tensors[name].tobytes()
    store.names.delete(variant_name(done.network.sha256))
    store.names.shorten_history(1)
    assert reader(store).weights(done.network)[name] not in collect(store)


def named_by_base(store: Store) -> set[Digest]:
    (family,) = families(store).values()
    return set(reader(store).weights(family.base).values())


def sparse_member() -> Opened:
    opened = unet(1)
    name = max(opened.tensors, key=lambda name: opened.tensors[name].size)
    array = opened.tensors[name].copy()
    array.reshape(-1)[::97] += 1
    return changed(opened, name, array)


def test_a_member_with_numbers_of_its_own_is_verified_as_it_is_served(store: Store) -> None:
    base = register(store, unet(1)).network
    network = register(store, sparse_member()).network
    found = verify_variant(store, network)
    assert found.passed
    assert found.inputs == 3
    kept = reader(store).variant(network)
    assert kept is not None
    assert (kept.kept, kept.family) == ({next(iter(kept.kept)): "sparse"}, str(base))


def test_a_build_that_computes_a_member_with_the_bases_numbers_does_not_get_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(store, unet(1))
    network = register(store, sparse_member()).network
    served = verify._member
    monkeypatch.setattr(verify, "_member", lambda store, variant: (*served(store, variant)[:2], ""))
    assert not verify_variant(store, network).passed
    kept = reader(store).variant(network)
    assert kept is not None
    assert kept.family == str(network)
    assert comes_back(store, network, sparse_member())


def test_once_imported_numbers_were_let_go_nobody_is_given_others_in_their_place(store: Store) -> None:
    register(store, unet(1, norms=1, folded=True))
    member = unet(1, norms=2, folded=True)
    network = register(store, member).network
    assert verify_variant(store, network).passed
    close = reader(store).tensors_as_kept(network)
    with pytest.raises(ObjectMissing):
        reader(store).tensors(network)
    collect(store)
    again = reader(store).tensors_as_kept(network)
    assert all(again[name].tobytes() == close[name].tobytes() for name in member.tensors)


def test_runs_without_a_finite_number_verify_nothing() -> None:
    opened = unet(1, norms=1)
    name = opened.structure.tensor_names()[0]
    lost = changed(opened, name, np.full_like(opened.tensors[name], np.nan))

    fed = {port.name: np.ones((1, 1, 32, 32), np.float32) for port in opened.structure.inputs}
    expected = OnnxSession(*_plain(lost)).run(fed)
    assert not any(np.isfinite(output).any() for output in expected)
    found = compared(lost, lambda: OnnxSession(*_plain(lost)), 1e-5, [fed])
    assert not found.passed
    assert found.inputs == 0


def _plain(opened: Opened) -> tuple[bytes, Any]:
    skeleton = plain(opened.structure, opened.tensors)
    return skeleton.graph, skeleton.large


def test_outputs_that_move_too_far_keep_the_network_in_full(store: Store) -> None:
    base = register(store, unet(1, norms=1, folded=True)).network
    member = unet(1, norms=2, folded=True)
    network = register(store, member).network
    found = verify_variant(store, network, tolerance=1e-12)
    assert not found.passed
    variant = reader(store).variant(network)
    assert variant is not None
    assert (variant.family, variant.exact, variant.verified) == (str(network), True, found)
    assert set(families(store)) == {str(base), str(network)}
    collect(store)
    assert comes_back(store, network, member)
    assert verify_variant(store, network) == found
    again = register(store, member)
    assert (again.network, again.family, again.bytes_added) == (network, network, 0)


def test_a_network_that_takes_no_input_we_know_is_kept_in_full(store: Store) -> None:
    def with_a_channel_too_many(opened: Opened) -> Opened:
        port = Port("x0", "float32", (1, 2, 32, 32))
        structure = msgspec.structs.replace(opened.structure, inputs=(port,))
        return Opened(structure, opened.tensors, opened.input_names, opened.output_names)

    register(store, with_a_channel_too_many(unet(1, norms=1, folded=True)))
    done = register(store, with_a_channel_too_many(unet(1, norms=2, folded=True)))
    assert not done.new_base
    found = verify_variant(store, done.network)
    assert (found.inputs, found.passed) == (0, False)
    assert str(done.network) in families(store)


def test_exact_members_need_no_run(store: Store) -> None:
    register(store, unet(1))
    network = register(store, unet(1, norms=1)).network
    found = verify_variant(store, network)
    assert (found.passed, found.inputs, found.largest_difference) == (True, 0, 0.0)


def test_inputs_that_are_given_count_as_well(store: Store) -> None:
    register(store, unet(1, norms=1, folded=True))
    network = register(store, unet(1, norms=2, folded=True)).network
    feeds = {"x0": np.ones((2, 1, 12, 20), np.float32)}
    assert verify_variant(store, network, inputs=[feeds]).inputs == 4


def test_damaged_evidence_is_no_evidence(store: Store) -> None:
    register(store, unet(1, norms=1, folded=True))
    network = register(store, unet(1, norms=2, folded=True)).network
    named = store.names.get(exact_name(network.sha256))
    assert named is not None
    record = msgspec.json.decode(store.objects.get(named))
    record["residual"] = str(store.objects.put(bytes(Digest.parse(record["residual"]).size)))
    store.names.set(exact_name(network.sha256), store.objects.put(msgspec.json.encode(record)))
    with pytest.raises(ObjectCorrupt):
        verify_variant(store, network)


def test_a_network_that_was_never_registered_cannot_be_verified(store: Store) -> None:
    with pytest.raises(ObjectMissing):
        verify_variant(store, Digest.of(b"another network"))


def test_networks_that_nothing_uses_are_forgotten_and_a_base_stays_for_its_members(store: Store) -> None:
    base = register(store, unet(1)).network
    member = register(store, unet(1, norms=1)).network
    other = register(store, unet(1, norms=2, folded=True)).network
    alone = register(store, unet(2)).network
    assert forget_unused(store, {str(member)}) == tuple(sorted((str(other), str(alone))))
    assert set(variants(store)) == {str(base), str(member)}
    collect(store)
    assert comes_back(store, member, unet(1, norms=1))
    assert set(families(store)) == {str(base)}
    forget_unused(store, ())
    assert collect(store) == set()
    assert register(store, unet(1, norms=1)).new_base


def test_records_keep_what_they_name_and_no_other_bytes_do() -> None:
    one, two, three, four = (Digest.of(bytes([number])) for number in range(4))
    family = Family(structure=str(one), base=str(two))
    assert set(network_references(family.to_bytes())) == {one, two}
    base = Variant(network=str(one), family=str(one), tensors={"t0": str(two)}, extra=str(three))
    assert set(network_references(base.to_bytes())) == {one, two, three}
    member = Variant(network=str(one), family=str(two), kept={"t0": "scaled"})
    assert set(network_references(member.to_bytes())) == {one, two}
    where = TensorAt(blob=str(four), offset=0, dtype="float32", shape=(1,))
    build = Build(
        engine="onnxruntime", precision="fp32", graph=str(one), tensors={"t0": where}, parameters=()
    )
    assert set(network_references(build.to_bytes())) == {one, four}
    assert network_references(b'{"format":"other/1"}') == ()
    assert network_references(b"\x80\x02") == ()
    assert network_references(b'{"t0":"' + str(one).encode() + b'"}') == ()


def test_the_tensors_of_a_network_are_not_kept_by_its_record(store: Store) -> None:
    network = register(store, unet(1)).network
    for name in store.names.items():
        store.names.delete(name)
    store.names.shorten_history(0)
    store.names.set("plan/x", network)
    left = collect(store)
    assert left >= {network}
    assert not left & set(reader(store).weights(network).values())


def test_a_pack_holds_small_tensors_of_any_type_aligned() -> None:
    arrays: dict[str, NDArray[Any]] = {
        "t0": np.arange(3, dtype=np.int8),
        "t1": np.array(2.5, np.float32),
        "t2": np.ones((2, 2), np.float64),
        "t4": np.ones((0, 3), np.float32),
        "t10": np.arange(5, dtype=np.float16),
        "t3": np.ones(1 << 14, np.float32),
    }
    structure = Structure(
        opset=17,
        inputs=(),
        outputs=(),
        tensors={name: TensorType(array.dtype.name, array.shape) for name, array in arrays.items()},
        constants={},
        ops=(),
    )
    pack = packed_small(structure, arrays)
    assert len(pack) == 3 + 5 + 4 + 4 + 32 + 10
    found = unpacked_small(structure, pack)
    assert list(found) == ["t0", "t1", "t2", "t4", "t10"]
    assert all(found[name].tobytes() == arrays[name].tobytes() for name in found)
    assert all(found[name].shape == arrays[name].shape for name in found)
    with pytest.raises(ValueError, match="buffer"):
        unpacked_small(structure, pack[:-1])


def test_a_record_of_another_version_is_named(store: Store) -> None:
    digest = store.objects.put(b'{"format":"lightbox.network/9","structure":"a","weights":"b","small":"c"}')
    with pytest.raises(Unreadable, match="network/9"):
        reader(store).record(digest)
    with pytest.raises(Unreadable):
        reader(store).record(store.objects.put(b"\x00"))


def test_equal_arrays_give_equal_archives() -> None:
    arrays = {"b": np.ones(3), "a": np.zeros(2)}
    assert npz(arrays) == npz(dict(reversed(arrays.items())))


def test_differences_count_relative_to_the_largest_output_and_lost_numbers_without_bound() -> None:
    wanted = [np.array([1.0, -4.0], np.float32)]
    assert largest_difference([np.array([1.0, -3.0], np.float32)], wanted) == 0.25
    assert largest_difference([np.array([np.nan, -4.0], np.float32)], wanted) == float("inf")
    nothing = [np.zeros(2, np.float32)]
    assert largest_difference(nothing, nothing) == 0
    assert largest_difference(wanted, nothing) == float("inf")

"""Which networks are forgotten, and that none is that somebody uses, is about to use, or may use again."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.errors import ObjectMissing
from object_store.names import Names
from object_store.opening import Store, open_store
from planner import binding, plan
from planner.canonical import canonical_json
from planner.names import exact_name, family_name, network_name, variant_name
from planner.networks.families import known as known_module
from planner.networks.families.forget import forget_unused
from planner.networks.families.known import forget_networks, known_networks
from planner.networks.families.members import families, variants
from planner.networks.families.register import Registration, register
from planner.networks.keeping import NetworkReader
from planner.networks.prove import verify_networks
from planner.networks.records import VARIANT_FORMAT
from planner.networks.structure import Opened
from planner.plan import Plan
from planner.references import references
from planner.turn import turn
from tests.canonical_networks import unet
from tests.power_cut import cut_short

HOUR_S = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def collect(store: Store) -> set[Digest]:
    """Everything that nothing refers to is deleted at once; returns what is left."""
    collect_garbage(store.objects, store.names, references, older_than_s=-10)
    return set(store.objects)


def comes_back(store: Store, network: Digest, opened: Opened) -> bool:
    found = NetworkReader(store.objects, store.names).tensors(network)
    return all(found[name].tobytes() == opened.tensors[name].tobytes() for name in opened.tensors)


def later(seconds: float) -> Callable[[], float]:
    return lambda: time.time() + seconds


def of_another_version(format_: str, **fields: Any) -> bytes:
    return canonical_json({"format": format_.rpartition("/")[0] + "/99", **fields})


def named(store: Store, name: str, data: bytes) -> None:
    store.names.set(name, store.objects.put(data))


def rewritten_by_another_version(store: Store, network: Digest) -> None:
    """As if a later Lightbox had written how this network is kept."""
    name = variant_name(network.sha256)
    now = store.names.get(name)
    assert now is not None
    fields = msgspec.json.decode(store.objects.get(now))
    named(
        store, name, of_another_version(VARIANT_FORMAT, **{k: v for k, v in fields.items() if k != "format"})
    )


# -- who uses a network ------------------------------------------------------------------------------------


def test_a_plan_of_another_version_keeps_its_networks_and_their_tensors(store: Store) -> None:
    opened = unet(1, norms=1)
    register(store, unet(1))
    network = register(store, opened).network
    nodes = [{"parameters": {"graph": str(network)}}]
    named(store, "tenant/local/p", of_another_version(plan.FORMAT, nodes=nodes, arrangement="new"))
    assert forget_networks(store, -1.0) == ()
    collect(store)
    assert comes_back(store, network, opened)


def test_a_plan_of_this_version_that_cannot_be_read_keeps_its_networks(store: Store) -> None:
    network = register(store, unet(1)).network
    named(store, "plan/p", canonical_json({"format": plan.FORMAT, "blobs": [str(network)], "nodes": 3}))
    assert forget_networks(store, -1.0) == ()
    collect(store)
    assert comes_back(store, network, unet(1))


def test_nothing_is_forgotten_while_a_plan_is_missing(store: Store) -> None:
    network = register(store, unet(1)).network
    store.names.set("plan/p", Digest.of(b"lost"))
    with pytest.raises(ObjectMissing):
        forget_networks(store, -1.0)
    assert set(variants(store)) == {str(network)}


def test_a_binding_alone_does_not_keep_a_network_known(store: Store) -> None:
    network = register(store, unet(1)).network
    bound = {"variant": "", "family": str(network), "choices": []}
    fields = {"format": binding.FORMAT, "plans": {}, "networks": {str(network): bound}}
    named(store, "binding", canonical_json(fields))
    assert forget_networks(store, -1.0) == (str(network),)


@pytest.mark.parametrize(
    "kind", ["plan", "binding", "network", "family", "variant", "exact", "build", "tuned"]
)
def test_every_digest_in_a_record_of_another_version_is_kept(kind: str) -> None:
    one, two = (Digest.of(bytes([number])) for number in range(2))
    data = canonical_json(
        {"format": f"lightbox.{kind}/99", "a": {str(one): 1}, "b": [[str(two)]], "c": "sha256:0"}
    )
    assert set(references(Digest.of(data), data)) == {one, two}
    foreign = data.replace(b"lightbox." + kind.encode(), b"lightbox.other")
    assert tuple(references(Digest.of(foreign), foreign)) == ()


def test_a_file_that_only_looks_like_a_record_refers_to_nothing() -> None:
    for data in (b'{"format":"lightbox.plan/1", torn', b'{"format":"lightbox.plan/99"', b'{"format":7}'):
        assert tuple(references(Digest.of(data), data)) == ()


# -- while others register ---------------------------------------------------------------------------------


def test_a_network_that_is_registered_again_is_spared_as_a_new_one_is(store: Store) -> None:
    networks = [register(store, opened).network for opened in (unet(1), unet(2))]
    again = time.time() + 2 * HOUR_S
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("planner.networks.families.register.time.time", lambda: again)
        register(store, unet(1))
    assert forget_networks(store, HOUR_S, clock=lambda: again + 1) == (str(networks[1]),)
    assert forget_networks(store, HOUR_S, clock=lambda: again + HOUR_S + 1) == (str(networks[0]),)


def test_no_network_is_registered_between_looking_and_forgetting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn is held from before the first look until the last name is gone."""
    register(store, unet(1))
    seen: list[str] = []

    def watched(name: str) -> None:
        real = getattr(known_module, name)

        def noted(*arguments: Any) -> Any:
            seen.append(f"{name} {_turn_is_free(store)}")
            return real(*arguments)

        monkeypatch.setattr(known_module, name, noted)

    for name in ("variants", "_used", "_registered_since", "forget_unused", "_forget_findings"):
        watched(name)
    forget_networks(store, -1.0)
    assert sorted(seen) == sorted(
        f"{name} False"
        for name in ("variants", "_used", "_registered_since", "forget_unused", "_forget_findings")
    )


def _turn_is_free(store: Store) -> bool:
    import fcntl

    with open(store.objects.root / "turn.lock", "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("known_before", [False, True])
def test_a_network_and_its_name_come_in_one_turn(
    store: Store, monkeypatch: pytest.MonkeyPatch, known_before: bool
) -> None:
    if known_before:
        register(store, unet(1))
    free: list[bool] = []
    real = Names.set

    def noted(names: Names, name: str, digest: Digest) -> None:
        free.append(_turn_is_free(store))
        real(names, name, digest)

    monkeypatch.setattr(Names, "set", noted)
    done = register(store, unet(1), name=network_name("site"))
    assert free
    assert not any(free)
    assert store.names.get(network_name("site")) == done.network
    assert forget_networks(store, -1.0) == ()


# -- records of another version ----------------------------------------------------------------------------


def test_one_record_of_another_version_stops_neither_listing_nor_forgetting(store: Store) -> None:
    base = register(store, unet(1)).network
    strange = register(store, unet(1, norms=1)).network
    alone = register(store, unet(2)).network
    rewritten_by_another_version(store, strange)
    assert {one.network for one in known_networks(store)} == {str(base), str(alone)}
    assert forget_networks(store, -1.0) == (str(alone),)
    assert store.names.get(variant_name(strange.sha256)) is not None
    left = collect(store)
    assert set(NetworkReader(store.objects).weights(base).values()) <= left
    assert strange in left


def test_a_family_of_another_version_is_left_out_and_not_joined(store: Store) -> None:
    base = register(store, unet(1)).network
    structure = Digest.parse(NetworkReader(store.objects).record(base).structure)
    name = family_name(structure.sha256, base.sha256)
    named(store, name, of_another_version("lightbox.family/1", structure=str(structure), base=str(base)))
    assert families(store) == {}
    assert register(store, unet(1, norms=1)).new_base


def test_a_network_that_another_version_registered_is_registered_anew(store: Store) -> None:
    network = register(store, unet(1)).network
    rewritten_by_another_version(store, network)
    again = register(store, unet(1))
    assert (again.network, again.new_base) == (network, True)
    assert set(variants(store)) == {str(network)}


def test_a_plan_with_a_network_of_another_version_is_promoted_without_verifying_it(store: Store) -> None:
    register(store, unet(1, norms=1, folded=True))
    network = register(store, unet(1, norms=2, folded=True)).network
    rewritten_by_another_version(store, network)
    node = plan.Node(
        id="n", step="net", operator="network", version=1, parameters={"graph": str(network)}, inputs=()
    )
    one = Plan(
        pipeline="p",
        version="1",
        title="",
        research_use_only=True,
        contract={},
        nodes=(node,),
        outputs=(),
        golden=(),
        blobs=(str(network),),
    )
    assert verify_networks(store, one) == ()


# -- cut short ---------------------------------------------------------------------------------------------


def test_forgetting_cut_short_at_any_write_leaves_every_network_whole_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, member = unet(1, norms=1, folded=True), unet(1, norms=2, folded=True)
    for allowed in range(20):
        with open_store(tmp_path / str(allowed)) as store:
            first = register(store, base)
            assert register(store, member).family == first.network
            cut = _cut_short(monkeypatch, store, allowed)
            for network, variant in variants(store).items():
                assert {network, variant.family} <= set(variants(store))
                assert variant.family in families(store)
            done: list[Registration] = [register(store, opened) for opened in (base, member)]
            assert {one.family for one in done} == {first.network}
            assert comes_back(store, done[1].network, member)
            collect(store)
            assert comes_back(store, done[1].network, member)
        if not cut:
            assert allowed > 4
            return
    pytest.fail("it never came to its end")


def test_what_a_cut_left_behind_goes_the_next_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    register(store, unet(1, norms=1, folded=True))
    network = register(store, unet(1, norms=2, folded=True)).network
    assert _cut_short(monkeypatch, store, 4)
    assert variants(store) == {}
    assert store.names.get(exact_name(network.sha256)) is not None
    assert forget_networks(store, HOUR_S, clock=later(0)) == ()
    assert store.names.items() == {}
    assert collect(store) == set()


def _cut_short(monkeypatch: pytest.MonkeyPatch, store: Store, allowed: int) -> bool:
    """Forget everything."""

    def forget() -> None:
        with turn(store):
            forget_unused(store, ())

    return cut_short(monkeypatch, allowed, ("delete", "forget_tags"), forget)

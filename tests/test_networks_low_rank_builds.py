"""A low-rank difference costs the members that have one, and nobody else."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from object_store.digest import Digest
from planner.names import FAMILIES
from planner.networks import applied, bind
from planner.networks.bind import bound_networks, built
from planner.networks.families.verify import verify_variant
from planner.networks.records import Build
from tests.networks import (
    image,
    largest_difference,
    low_rank_variant,
    private_variant,
    run,
    sparse_variant,
    unet,
)
from tests.networks_in_store import StoredFamily

WIDE = (16, 48)


def adapted(folder: Path) -> tuple[StoredFamily, list[onnx.ModelProto]]:
    """A base, a site with other normalisation, and one with adapters; all may be bound."""
    base = unet(3, WIDE)
    models = [base, unet(3, WIDE, norm_seed=7), low_rank_variant(base, 1)]
    return verified(folder, models), models


def verified(folder: Path, models: list[onnx.ModelProto]) -> StoredFamily:
    stored = StoredFamily(folder, models)
    for network in stored.networks:
        assert verify_variant(stored.store, Digest.parse(network)).passed
    return stored


def builds(stored: StoredFamily) -> list[str]:
    """What each network is bound to."""
    bound = bound_networks(stored.store, dict.fromkeys(stored.networks, ()))
    return [bound[network].choices[-1].build for network in stored.networks]


def parts(stored: StoredFamily, build: str) -> set[str]:
    """Of low-rank differences, those that the build is fed."""
    found: Build = stored.loader.compiled(build).build
    return {parameter.part for parameter in found.parameters if parameter.part}


def taking(monkeypatch: pytest.MonkeyPatch, times: float) -> list[str]:
    """The networks that were timed, from now on. times: what is found for each of them."""
    timed: list[str] = []

    def applied_time(store: Path, applied: str, materialised: str, network: str, variant: str) -> float:
        timed.append(network)
        return times

    monkeypatch.setattr(applied, "applied_time", applied_time)
    return timed


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_members_without_a_low_rank_difference_are_fed_none(
    times: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking(monkeypatch, times)
    stored, models = adapted(tmp_path)
    base, site, adapter = builds(stored)
    assert base == site
    assert parts(stored, base) == set()
    assert parts(stored, adapter) == ({"left", "right"} if times == 1.0 else set())
    assert (adapter == base) is (times == 3.0)
    for model, network, build in zip(models, stored.networks, (base, site, adapter), strict=True):
        member = stored.loader.member(build, network, stored.variant(network))
        fed = image(model, 1)["input"]
        assert largest_difference(member.run({"x0": fed}), run(model, {"input": fed})) < 1e-5


def test_members_with_an_adapter_share_a_session_where_applying_it_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = unet(3, WIDE)
    for times, sessions in ((1.0, 1), (3.0, 2)):
        taking(monkeypatch, times)
        stored = verified(
            tmp_path / str(sessions), [base, *(low_rank_variant(base, seed) for seed in (1, 2))]
        )
        bound = list(zip(stored.networks, builds(stored), strict=True))[1:]
        members = [stored.loader.member(build, network, stored.variant(network)) for network, build in bound]
        assert len({id(member.compiled.session) for member in members}) == sessions


def test_a_member_that_needs_a_session_of_its_own_anyway_is_fed_no_factors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For numbers that are sparsely changed or kept in full it has one; its low-rank filters go in there."""
    timed = taking(monkeypatch, 1.0)
    base = unet(3, (16, 32, 64))
    own = [sparse_variant(base, 1), private_variant(low_rank_variant(base, 2), 3)]
    stored = verified(tmp_path, [base, *own])
    assert set(stored.family.low_rank) > set()
    assert stored.family.sparse or stored.family.private
    assert len(set(builds(stored))) == 1
    assert timed == []


def test_a_build_for_adapters_is_made_only_where_a_member_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = bind.built

    def counted(*arguments: Any, **options: Any) -> Digest:
        made.append(options.get("low_rank", "materialised"))
        return real(*arguments, **options)

    timed = taking(monkeypatch, 1.0)
    stored, _ = adapted(tmp_path)
    monkeypatch.setattr(bind, "built", counted)
    base, site, adapter = stored.networks
    bound_networks(stored.store, {base: (), site: ()})
    assert made == ["materialised"]
    bound_networks(stored.store, {adapter: ()})
    assert made == ["materialised", "applied"]
    assert timed == [adapter]  # at promotion, and not again


def test_what_applying_costs_is_timed_once_for_the_same_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = taking(monkeypatch, 1.0)
    base = unet(3, WIDE)
    models = [base, low_rank_variant(base, 1, rank=2), unet(3, WIDE, norm_seed=7), low_rank_variant(base, 2)]
    stored = verified(tmp_path / "same", models)
    builds(stored)
    assert timed == [stored.networks[1]]
    wider = verified(tmp_path / "wider", [base, low_rank_variant(base, 1, rank=1)])
    builds(wider)
    assert timed[1:] == [wider.networks[1]]


def test_builds_with_and_without_factors_are_remembered_apart(tmp_path: Path) -> None:
    stored, _ = adapted(tmp_path)
    (named,) = stored.store.names.items(FAMILIES).values()
    first = [built(stored.store, named, stored.family, low_rank=how) for how in ("applied", "materialised")]
    assert len(set(first)) == 2
    again = [built(stored.store, named, stored.family, low_rank=how) for how in ("applied", "materialised")]
    assert again == first


def matrices(seed: int = 0, size: int = 192) -> onnx.ModelProto:
    """Three products with large matrices, for rows of an image."""
    numbers = np.random.default_rng(seed)
    given = {f"w{n}": numbers.normal(size=(size, size)).astype(np.float32) / size**0.5 for n in range(3)}
    nodes, value = [], "input"
    for place in range(3):
        nodes.append(helper.make_node("MatMul", [value, f"w{place}"], [f"m{place}"]))
        nodes.append(helper.make_node("Relu", [f"m{place}"], [f"r{place}" if place < 2 else "output"]))
        value = f"r{place}"
    graph = helper.make_graph(
        nodes,
        "matrices",
        [helper.make_tensor_value_info("input", 1, ["n", "rows", size])],
        [helper.make_tensor_value_info("output", 1, ["n", "rows", size])],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


@pytest.mark.parametrize("model", [unet(3, WIDE), matrices()], ids=["convolutions", "matrices"])
def test_applying_is_timed_on_inputs_that_the_network_takes(model: onnx.ModelProto, tmp_path: Path) -> None:
    stored = StoredFamily(tmp_path, [model, low_rank_variant(model, 1)])
    (named,) = stored.store.names.items(FAMILIES).values()
    build, own = (
        str(built(stored.store, named, stored.family, low_rank=how)) for how in ("applied", "materialised")
    )
    network = stored.networks[1]
    found = applied.applied_time(stored.store.objects.root, build, own, network, stored.variant(network))
    assert 0.5 < found < 10
    against_itself = applied.applied_time(
        stored.store.objects.root, own, own, network, stored.variant(network)
    )
    assert 0.6 < against_itself < 1.6


def test_a_member_that_does_not_run_with_factors_has_a_session_of_its_own(tmp_path: Path) -> None:
    base = unet(3, WIDE)
    stored = StoredFamily(tmp_path, [base, low_rank_variant(base, 1)])
    own, network = str(stored.build(low_rank="materialised")), stored.networks[1]
    lacking = stored.loader.compiled(own).build
    broken = stored.store.objects.put(_without_graph(stored, lacking))
    variant = stored.variant(network)
    times = applied.applied_time(stored.store.objects.root, str(broken), own, network, variant)
    assert times == float("inf")


def _without_graph(stored: StoredFamily, build: Build) -> bytes:
    import msgspec

    graph = str(stored.store.objects.put(b"no graph"))
    return msgspec.structs.replace(build, graph=graph, otherwise="").to_bytes()

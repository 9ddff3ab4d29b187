"""Real networks through the planning path: each computes what its file does; unrelated ones stay apart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.benches.networks.real_families import INPUTS, compared, inputs_of
from loadtest.benches.real_networks import BUNDLED, MESHNETS, SITES, networks
from object_store.opening import Store, open_store
from planner.binding import Binding
from planner.machine import machine_facts
from planner.networks.bind import bound_networks
from planner.networks.families.members import families
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from planner.resources import StoreResources

TOLERANCE = 1e-5
FAST = ("unet_small_ct_lung", "model5_gw_ae", "model11_gw_ae", "mnm_tfjs_me_test", "model_11ch_ARC")
"""Of networks as these others are copies in other widths; the bench runs them all."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


@pytest.mark.parametrize("name", FAST)
def test_a_real_network_that_was_planned_computes_what_its_file_does(
    name: str, shared_data: Path, store: Store
) -> None:
    (network,) = networks((name,))
    digest = str(register(store, network.opened).network)
    bound = bound_networks(store, {digest: ()})
    assert bound.keys() == {digest}
    binding = Binding(machine=machine_facts(), plans={}, stages=(), networks=bound)
    session = StoreResources(store.objects.root, threads=2).under(binding).network(digest)
    inputs = list(inputs_of(network))
    assert len(inputs) == INPUTS
    few = [inputs[place] for place in (0, 1, 2, INPUTS // 2, INPUTS - 1)]
    found = compared(session, shared_data / "models" / name / "model.onnx", few)
    assert found.inputs == len(few)
    assert found.largest_difference <= TOLERANCE


def test_inputs_are_random_and_real_and_none_is_twice(shared_data: Path) -> None:
    (network,) = networks(("model5_gw_ae",))
    inputs = list(inputs_of(network))
    assert len({one.tobytes() for one in inputs}) == INPUTS
    real = inputs[INPUTS // 2 :]
    assert all(one.min() >= 0 and one.max() <= 1 and one.std() > 0 for one in real)


def test_real_networks_that_were_trained_apart_are_families_of_their_own(
    shared_data: Path, store: Store
) -> None:
    """Six share a graph but no width or no number; the two of one width have not one filter in common."""
    paths = [shared_data / "models" / name / "model.onnx" for name in MESHNETS]
    done = [register(store, open_network(path)) for path in paths]
    assert all(one.new_base for one in done)
    assert len(families(store)) == len(MESHNETS)


def test_a_real_network_written_again_by_its_canonical_form_is_the_same_network(
    shared_data: Path, store: Store, tmp_path: Path
) -> None:
    from planner.networks.reading.write import model_bytes, to_onnx

    opened = open_network(shared_data / "models" / "unet_small_ct_lung" / "model.onnx")
    again = tmp_path / "again.onnx"
    again.write_bytes(model_bytes(to_onnx(opened.structure, opened.tensors)))
    first, second = register(store, opened), register(store, open_network(again))
    assert second.network == first.network
    assert second.bytes_added == 0


def test_a_real_network_and_its_site_variants_are_one_family(shared_data: Path, store: Store) -> None:
    import numpy as np

    from models.pipeline_file import ZOO

    base = register(store, open_network(ZOO / f"{BUNDLED}.onnx"))
    for site in SITES:
        with np.load(ZOO / f"{BUNDLED}-{site}.npz") as numbers:
            own = {name: numbers[name] for name in numbers.files}
        assert register(store, open_network(ZOO / f"{BUNDLED}.onnx", own)).family == base.network
    assert len(families(store)) == 1

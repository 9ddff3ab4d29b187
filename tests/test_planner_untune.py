"""What tuning found can be forgotten: the pipelines it changed run in plain fp32 again."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import planner.cost
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.bind import bind, without_measuring
from planner.errors import UnknownPipeline
from planner.machine import gates_id
from planner.names import precision_name
from planner.networks.tuned import recorded_gates, tuned_families
from planner.turn import turn
from planner.untune import untune
from serving.cli.main import app
from tests.networks_in_pipelines import network_in, promoted
from tests.planner_cases import binding_of
from tests.tuning_cases import NET, SITE, compiled, found_bf16


def lightbox(store: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--store", str(store)])


def precisions(store: Store, network: str) -> list[str]:
    return [choice.precision for choice in binding_of(store).networks[network].choices]


def tuned(store: Store) -> tuple[str, str, str]:
    """Two promoted members of a family in bf16. Gives the digests of their networks and of the first plan."""
    net, site = compiled(store, NET, SITE)
    found_bf16(store)
    promoted(store, NET)
    promoted(store, SITE)
    return network_in(net.plan), network_in(site.plan), str(net.digest)


def found_elsewhere(store: Store) -> set[str]:
    """Names of what was found: for this family on another machine model, for another family on this one."""
    ((base, _),) = tuned_families(store).items()
    found = store.names.get(precision_name(gates_id(), Digest.parse(base).sha256))
    assert found is not None
    names = {precision_name("0" * 16, Digest.parse(base).sha256), precision_name(gates_id(), "1" * 64)}
    for name in names:
        store.names.set(name, found)
    return names


def test_forgetting_binds_every_member_of_the_family_in_plain_fp32(store: Store) -> None:
    net, site, plan = tuned(store)
    assert precisions(store, net) == precisions(store, site) == ["bf16", "fp32"]
    assert recorded_gates(store, plan, net) is not None
    others = found_elsewhere(store)

    done = untune(store, NET, costing=without_measuring)

    assert (done.pipeline, done.ways, len(done.families)) == (NET, 1, 1)
    assert done.pipelines == (NET, SITE)
    assert precisions(store, net) == precisions(store, site) == ["fp32"]
    assert set(store.names.items("precision/")) == others
    assert recorded_gates(store, plan, net) is None
    with turn(store):  # nor does a later binding bring it back
        bind(store, costing=without_measuring)
    assert precisions(store, net) == ["fp32"]


def test_a_pipeline_that_was_never_tuned_has_nothing_to_forget(store: Store) -> None:
    (net,) = compiled(store, NET)
    done = untune(store, NET, costing=without_measuring)
    assert done.ways == 0
    assert precisions(store, network_in(net.plan)) == ["fp32"]
    with pytest.raises(UnknownPipeline):
        untune(store, "nothing", costing=without_measuring)


def test_the_command_says_who_is_back_in_plain_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner.cost, "measured_costs", lambda *_, **__: without_measuring)
    with open_store(tmp_path / "store") as store:
        tuned(store)
    told = lightbox(tmp_path / "store", "tune", NET, "--forget")
    assert told.exit_code == 0, told.output
    assert f"1 way found for 1 family forgotten; in plain fp32 again: {NET}, {SITE}\n" in told.stdout
    again = lightbox(tmp_path / "store", "tune", NET, "--forget")
    assert "nothing was found on this machine" in again.stdout
    plain = lightbox(tmp_path / "store", "tune", NET, "--forget", "--json")
    assert json.loads(plain.stdout)["ways"] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nothing", "--forget"), "pipeline 'nothing' has not been compiled into this store"),
        ((NET, "--forget", "--again"), "give one of them"),
        ((NET, "--budget", "-3"), "greater than or equal to 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    told = lightbox(tmp_path / "store", "tune", *words)
    assert told.exit_code == 2
    assert says in told.stderr
    assert "binding" not in told.stdout

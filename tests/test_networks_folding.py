"""A tuned member may run on a build of its own, with what its family lifts folded in; others may not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.errors import KernelError
from object_store.digest import Digest
from planner.networks.building.build import plain, put_build
from planner.networks.building.lift import Lifted, lifted_structure
from planner.networks.keeping import NetworkReader
from planner.networks.precision import folding
from planner.networks.precision.candidates import Choice, Tried
from planner.networks.precision.cases import Case, Feed
from planner.networks.precision.folding import Folding
from planner.networks.precision.gate import Gate, Labels
from planner.networks.precision.layers import Level
from planner.networks.precision.mixtures import Mixtures
from planner.networks.precision.trial import NO_PRECISION_HINTS, Judged, open_exact
from planner.networks.records import Variant
from planner.networks.tuned import Tuned, Way, usable
from tests.engines import needs_openvino
from tests.networks import image, largest_difference, low_rank_variant, sparse_variant, unet
from tests.networks_in_store import StoredFamily

WIDE = (16, 48)


def own_stage(stored: StoredFamily, network: str) -> Lifted:
    reader = NetworkReader(stored.store.objects, stored.store.names)
    return lifted_structure(reader.structure(network), reader.kept_tensors(network))


def own_build(stored: StoredFamily, network: str) -> Digest:
    return put_build(
        stored.store,
        own_stage(stored, network),
        {},
        engine="onnxruntime",
        precision="fp32",
        hints={},
        network=network,
    )


def record(stored: StoredFamily, network: str) -> Variant:
    reader = NetworkReader(stored.store.objects, stored.store.names)
    found = reader.variant(network)
    assert found is not None
    return found


def models_of(kind: str) -> list[onnx.ModelProto]:
    base = unet(3, WIDE)
    if kind == "normalisation":
        return [unet(3, norm_seed=site) for site in range(3)]
    return [base, low_rank_variant(base, 1) if kind == "low rank" else sparse_variant(base, 1)]


def fed(model: onnx.ModelProto) -> Feed:
    (array,) = image(model, 1, size=32).values()
    return {"x0": array}


@pytest.mark.parametrize("kind", ["normalisation", "low rank", "sparse"])
def test_a_build_of_its_own_computes_a_member_as_the_family_does(kind: str, tmp_path: Path) -> None:
    models = models_of(kind)
    stored = StoredFamily(tmp_path, models)
    family = stored.members(stored.build())[1]
    network = stored.networks[1]
    own = stored.loader.member(str(own_build(stored, network)), network, stored.variant(network))
    assert largest_difference(own.run(fed(models[1])), family.run(fed(models[1]))) <= 1e-6
    assert (
        largest_difference(own.run(fed(models[1])), stored.members(stored.build())[0].run(fed(models[0])))
        > 1e-3
    )


def test_a_build_of_its_own_computes_no_other_member(tmp_path: Path) -> None:
    stored = StoredFamily(tmp_path, models_of("normalisation"))
    build, other = str(own_build(stored, stored.networks[1])), stored.networks[2]
    with pytest.raises(KernelError, match="does not compute"):
        stored.loader.member(build, other, stored.variant(other))


def way(name: str, *, lifted: tuple[str, ...] = (), network: str = "") -> Way:
    return Way(
        build=str(Digest.of(name.encode())),
        engine="openvino",
        precision="int8",
        seconds=1.0,
        baseline_seconds=2.0,
        lifted=lifted,
        network=network,
    )


@pytest.mark.parametrize("kind", ["normalisation", "low rank"])
def test_a_way_of_one_members_own_is_no_way_for_the_others(kind: str, tmp_path: Path) -> None:
    stored = StoredFamily(tmp_path, models_of(kind))
    base, member = stored.networks[:2]
    shared = way("family", lifted=stored.family.lifted)
    own = way("own", network=member)
    tuned = Tuned(family=stored.family.base, ways=(own, shared))
    assert usable(stored.store, tuned, stored.family, record(stored, base)) == (shared,)
    of_member = usable(stored.store, tuned, stored.family, record(stored, member))
    assert of_member == ((own, shared) if kind == "normalisation" else (own,))


def labels(outputs: list[Any]) -> Labels:
    return np.asarray(outputs[0].argmax(axis=1))


def folding_of(stored: StoredFamily, network: str, heard: list[str]) -> tuple[Folding, Choice]:
    """A member to fold whose family runs in bf16."""
    reader = NetworkReader(stored.store.objects, stored.store.names)
    structure, tensors = reader.structure(network), reader.kept_tensors(network)
    lifted = lifted_structure(structure, tensors, stored.family.lifted)
    parameters: Feed = {p.name: tensors[p.of].reshape(p.shape) for p in lifted.parameters}
    exact = open_exact(plain(structure, tensors), 1)
    pieces = tuple(fed(unet(3)) for _ in range(2))
    cases = [Judged(exact, parameters, labels, Gate(), [Case(name, pieces)]) for name in ("one", "other")]
    mixtures = Mixtures(lifted, [{**piece, **parameters} for piece in pieces], 1, heard.append)
    level: Level = "bf16"
    levels = (level,) * len(mixtures.layers)
    tried = Tried(engine="openvino", precision="bf16", levels=levels)
    choice = Choice(tried, mixtures.lowered("openvino", levels), NO_PRECISION_HINTS["openvino"])
    alone = Folding(
        stage=own_stage(stored, network),
        pieces=pieces,
        calibration=cases[0],
        held_out=cases[1],
        timed=pieces[0],
        parameters=parameters,
        exact=exact,
        threads=1,
        progress=heard.append,
    )
    return alone, choice


@needs_openvino
def test_a_folded_build_is_judged_and_timed_and_taken_only_where_it_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    stored = StoredFamily(tmp_path, models_of("normalisation"))
    alone, choice = folding_of(stored, stored.networks[1], heard)
    assert alone.may_pay
    monkeypatch.setattr(folding, "WORTH", 1e9)
    tried, taken = alone.tried(choice)
    assert tried.folded
    assert tried.passed
    assert len(tried.rounds_s) == len(tried.baseline_rounds_s) > 1
    assert taken is not None
    assert taken.stage.parameters == ()
    assert any("of the time" in line for line in heard)
    monkeypatch.setattr(folding, "WORTH", 0.0)
    again, left = alone.tried(choice)
    assert again.passed
    assert left is None


@needs_openvino
def test_a_folded_build_that_the_gate_refuses_is_not_taken(tmp_path: Path) -> None:
    stored = StoredFamily(tmp_path, models_of("normalisation"))
    alone, choice = folding_of(stored, stored.networks[1], [])
    other = folding_of(stored, stored.networks[2], [])[0]
    wrong = replace(alone, stage=other.stage)
    tried, taken = wrong.tried(choice)
    assert taken is None
    assert "Dice" in tried.refused
    assert tried.rounds_s == ()


@needs_openvino
def test_a_large_network_and_one_with_nothing_lifted_are_not_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = StoredFamily(tmp_path, models_of("normalisation"))
    alone, _ = folding_of(stored, stored.networks[1], [])
    nothing = replace(alone, parameters={})
    assert not nothing.may_pay
    monkeypatch.setattr(folding, "MOST_BYTES", 1)
    assert not alone.may_pay

"""Ways on trial by a plan's masks: how its other networks run meanwhile, and what no golden case tells."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.values import LabelMap
from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.opening import Store
from planner.binding import Binding
from planner.errors import NotChecked
from planner.golden_runs import golden_runs
from planner.live import live_plans
from planner.networks.bind import bound_networks
from planner.networks.gating import gate_networks, plan_verdict
from planner.networks.precision.gate import Gate, Verdict
from planner.networks.prove import verify_networks
from planner.networks.tuned import Tuned, record_tuned, recorded_gates
from planner.references import references
from tests.networks import low_rank_variant, saved, unet
from tests.networks_in_pipelines import compiled as compiled_as_they_are
from tests.networks_in_pipelines import network_in, with_network
from tests.tuning_cases import NET, SITE, compiled, found_bf16, only_family, side_by_side, way


@pytest.mark.parametrize("kind", ["folded", "low rank"])
def test_a_verified_network_beside_a_tuned_one_runs_from_what_its_family_shares(
    store: Store, tmp_path: Path, kind: str
) -> None:
    """Its imported numbers were let go."""
    (net,) = compiled(store, NET)
    found = found_bf16(store)
    base = unet(3, (16, 32))
    changed = (
        low_rank_variant(base, 1) if kind == "low rank" else unet(3, (16, 32), norm="folded", norm_seed=7)
    )
    _, other = compiled_as_they_are(
        store,
        with_network(saved(tmp_path, base, "base"), "base"),
        with_network(saved(tmp_path, changed, "changed"), "changed"),
    )
    assert verify_networks(store, other.plan) == (network_in(other.plan),)
    digest, plan = side_by_side(store, net, other)
    collect_garbage(store.objects, store.names, references, older_than_s=-10)
    with golden_runs(store, plan) as runs:
        assert gate_networks(store, (digest, plan), [network_in(net.plan)], lambda: runs)
    gates = recorded_gates(store, str(digest), network_in(net.plan))
    assert gates is not None
    assert [(result.build, result.passed) for result in gates.results] == [(found.build, True)]


# -- runs whose masks are given ----------------------------------------------------------------------------


def mask(*labels: int, segments: tuple[str, ...] = ("Left lung", "Right lung")) -> LabelMap:
    """600 voxels of each label in turn, and as many of none."""
    voxels = np.repeat(np.array([0, *labels], np.uint8), 600).reshape(-1, 20, 30)
    return LabelMap(voxels, np.eye(4), segments)


@dataclass(frozen=True)
class Given:
    """A golden run that was computed elsewhere."""

    reference: dict[str, LabelMap]
    masks: dict[str, LabelMap]
    fed: dict[str, Any]
    title: str = "phantom seed 7"
    trials: list[Binding] = field(default_factory=list)

    def masks_apart(self, store: Path, binding: Binding) -> dict[str, LabelMap]:
        self.trials.append(binding)
        return self.masks


class Stopped(Given):
    def masks_apart(self, store: Path, binding: Binding) -> dict[str, LabelMap]:
        raise NotChecked("ct-lungs-net", ("phantom seed 7: step net was stopped: it took too long",))


FED = [{"x0": np.zeros((1, 1, 8, 8), np.float32)}]


def given(network: str, exact: LabelMap, found: LabelMap | None = None, **changes: Any) -> Given:
    run = Given({"lungs": exact}, {"lungs": found or exact}, {network: FED})
    return replace(run, **changes)


def judged(store: Store, network: str, *runs: Any) -> Verdict:
    ways = {network: way(Digest.of(b"never opened"))}
    return plan_verdict(store, ways, runs, Gate())


@pytest.fixture
def network(store: Store) -> str:
    (net,) = compiled(store, NET)
    return network_in(net.plan)


def test_a_way_is_refused_where_no_golden_case_shows_any_segment(store: Store, network: str) -> None:
    verdict = judged(store, network, given(network, mask()), given(network, mask()))
    assert not verdict.passed
    assert verdict.failures == ("the golden cases show no segment at all, so there is nothing to judge by",)


def test_one_golden_case_that_shows_a_segment_is_enough(store: Store, network: str) -> None:
    verdict = judged(store, network, given(network, mask()), given(network, mask(1, 2)))
    assert (verdict.passed, verdict.segments, verdict.tiny, verdict.unseen) == (True, 2, 0, ())


def test_a_segment_made_up_where_no_golden_case_shows_any_is_refused_for_that(
    store: Store, network: str
) -> None:
    verdict = judged(store, network, given(network, mask(0, 0), mask(0, 1)))
    assert not verdict.passed
    assert "tiny segment 1 of 0 voxels differs in 600" in verdict.failures[0]


def test_a_way_of_a_network_that_no_mask_depends_on_is_refused(store: Store, network: str) -> None:
    lungs = mask(1, 2)
    feeds: list[dict[str, Any]] = [{}, {network: []}, {"another": FED}]
    for fed in feeds:
        verdict = judged(store, network, given(network, lungs, fed=fed))
        assert not verdict.passed
        assert "no mask of the golden cases depends on this network" in verdict.failures[0]


def test_a_way_of_a_network_is_refused_where_there_is_no_mask(store: Store, network: str) -> None:
    verdict = judged(store, network, given(network, mask(1), reference={}, masks={}))
    assert not verdict.passed


def test_a_way_is_refused_without_a_golden_run(store: Store, network: str) -> None:
    verdict = judged(store, network)
    assert (verdict.passed, verdict.failures) == (False, ("there is no golden case to judge by",))


def test_a_way_that_had_to_be_stopped_is_refused_for_that(store: Store, network: str) -> None:
    lungs = {"lungs": mask(1, 2)}
    verdict = judged(store, network, Stopped(lungs, lungs, {network: FED}))
    assert not verdict.passed
    assert verdict.failures == ("phantom seed 7: step net was stopped: it took too long",)


def test_one_output_that_fails_is_refused_though_the_next_one_passes(store: Store, network: str) -> None:
    run = given(
        network,
        mask(1),
        reference={"lungs": mask(1, 2), "vessels": mask(1)},
        masks={"lungs": mask(1, 0), "vessels": mask(1)},
    )
    assert not judged(store, network, run).passed


def test_segments_that_no_golden_case_shows_are_named_by_the_verdict_and_the_binding(
    store: Store, network: str
) -> None:
    ((digest, plan),) = live_plans(store).items()
    found = way(Digest.of(b"never opened"))
    record_tuned(store, Tuned(family=only_family(store).base, ways=(found,)))
    runs: list[Any] = [given(network, mask(1)), given(network, mask(1, 1))]
    assert gate_networks(store, (Digest.parse(digest), plan), [network], lambda: runs)
    bound = bound_networks(store, {network: (digest,)})[network]
    figures = bound.choices[0].figures
    assert bound.choices[0].build == found.build
    assert (figures["segments"], figures["tiny"]) == (2, 0)
    assert figures["unseen"] == ["lungs: Right lung"]


def test_all_other_networks_run_plainly_while_one_is_tried(store: Store) -> None:
    net, site = compiled(store, NET, SITE)
    one, other = network_in(net.plan), network_in(site.plan)
    run = given(one, mask(1, 2), fed={one: FED, other: FED})
    judged(store, one, run)
    (trial,) = run.trials
    assert [choice.build for choice in trial.networks[one].choices] == [str(Digest.of(b"never opened"))]
    (plainly,) = trial.networks[other].choices
    assert (plainly.engine, plainly.precision) == ("onnxruntime", "fp32")

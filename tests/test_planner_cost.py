"""Costs are measured once per kind of work and machine, and what is predicted holds for other series."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.operators.base import KernelContext, Operator
from models.phantom import PhantomSpec
from models.pipeline import Step
from models.pipeline_file import pipeline_path, read_pipeline
from models.values import Value
from object_store.opening import Store, open_store
from planner.bind import bind, without_measuring
from planner.binding import Binding, CostModel, Stage
from planner.calibration import calibrate, predictions
from planner.compile import compile_pipelines
from planner.cost import QUICK, cost_keys, measured_costs, remember, remembered_costs
from planner.errors import UnknownPipeline
from planner.live import current_binding
from planner.measuring.fit import PEAK_SLACK_BYTES, Sample, fitted, within_margin
from planner.measuring.tiles import Heard, tile_cost
from planner.memory import arrays_of, give_back_freed, peak_bytes_of
from planner.names import costs_name, plan_name
from planner.networks.apart_child import Bounds
from planner.networks.records import BoundNetwork, Gated
from planner.plan import SOURCE, Node
from planner.stages import UNMEASURED
from tests.fake_operators import FAKES, FakeAdd
from tests.planner_cases import compile_fakes, fake_operator, things

TINY = tuple(
    PhantomSpec(seed=1, slices=slices, rows=16, columns=16, spacing_mm=(spacing, 20, 20))
    for slices, spacing in ((4, 5.0), (40, 5.0), (40, 2.0))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeFailing(FakeAdd):
    name: ClassVar[str] = "failing"

    def apply(self, inputs: list[Value], context: KernelContext) -> Value:  # type: ignore[override]
        raise RuntimeError("no phantom, please")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeDying(FakeAdd):
    name: ClassVar[str] = "dying"

    def apply(self, inputs: list[Value], context: KernelContext) -> Value:  # type: ignore[override]
        os._exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeEndless(FakeAdd):
    name: ClassVar[str] = "endless"

    def apply(self, inputs: list[Value], context: KernelContext) -> Value:  # type: ignore[override]
        while True:
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeGreedy(FakeAdd):
    name: ClassVar[str] = "greedy"

    def apply(self, inputs: list[Value], context: KernelContext) -> Value:  # type: ignore[override]
        np.empty(2 << 30, np.uint8)
        raise AssertionError("nobody may have so much")


def failing_operator(node: Node) -> Operator:
    """Found by name in the measuring process, as everything that goes there."""
    own = {kind.name: kind for kind in (FakeFailing, FakeDying, FakeEndless, FakeGreedy)}
    if node.operator in own:
        return own[node.operator].from_parameters(node.parameters)
    return fake_operator(node)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def costs(store: Store) -> dict[str, CostModel]:
    current = current_binding(store)
    assert current is not None
    return {stage.name: stage.cost for stage in current[1].stages}


def test_every_stage_is_measured_once(store: Store) -> None:
    seen: list[str] = []
    costing = measured_costs(store, fake_operator, seen.append, TINY)
    compile_fakes(store, [things("a")], costing=costing)
    assert seen == ["decode", "stack", "add+threshold", "measure", "encode_seg"] * len(TINY)
    assert all(cost.measured for cost in costs(store).values())
    first = remembered_costs(store)
    seen.clear()
    compile_fakes(store, [things("b", above=2.0)], costing=costing)
    assert set(seen) == {"add", "threshold", "measure", "encode_seg"}
    assert first.items() <= remembered_costs(store).items()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (FakeFailing, ""),
        (FakeDying, "the process that ran it ended by exit code 1"),
        (FakeEndless, "it did not come to an end in 2 s"),
        (FakeGreedy, "it needs more than 1.0 GiB of memory"),
    ],
)
def test_a_stage_that_fails_on_the_phantom_and_those_after_it_keep_the_default(
    store: Store,
    kind: type[FakeAdd],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that had to be stopped is named, once, as it is not tried on the phantoms after that one."""
    monkeypatch.setitem(FAKES, kind.name, kind)
    failing = things(steps=[Step(name="lifted", operator=kind(amount=1.0), inputs=("volume",))])
    narrow = replace(QUICK, bounds=Bounds(seconds=2.0, bytes=1 << 30))
    costing = measured_costs(store, failing_operator, phantoms=TINY, thoroughness=narrow)
    compile_fakes(store, [failing], costing=costing)
    measured = {name: cost.measured for name, cost in costs(store).items()}
    assert measured == {
        "decode": True,
        "stack": True,
        f"{kind.name}+threshold": False,
        "measure": False,
        "encode_seg": False,
    }
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    said = f"things: step lifted was stopped while its cost was measured on a phantom: {why}"
    assert [line.partition(";")[0] for line in told] == ([said] if why else [])


def test_costs_of_an_older_method_are_measured_again(store: Store) -> None:
    from planner.machine import machine_id

    remember(store, {"key": UNMEASURED})
    assert remembered_costs(store) == {"key": UNMEASURED}
    old = store.objects.put(b'{"key":{"fixed_s":1,"per_voxel_s":0,"measured":true}}')
    store.names.set(costs_name(machine_id()), old)
    assert remembered_costs(store) == {}


def test_calibrating_measures_anew_and_binds_what_it_found(store: Store) -> None:
    compile_fakes(store, [things("a"), things("b", above=2.0)], costing=without_measuring)

    def binder(opened: Store) -> object:
        return bind(
            opened, costing=measured_costs(opened, fake_operator, phantoms=TINY), operators=fake_operator
        )

    counts: list[int] = []
    done = calibrate(
        store, ["a"], phantoms=TINY, operators=fake_operator, chosen=counts.append, binder=binder
    )
    current = current_binding(store)
    assert current is not None
    assert done.binding == str(current[0])
    assert counts == [len(done.stages)] == [6]
    assert {row.pipelines for row in done.stages} == {("a",), ("a", "b")}
    assert not any(row.before.measured for row in done.stages)
    assert all(row.after.measured for row in done.stages)
    after = {stage.id: stage.cost for stage in current[1].stages}
    assert all(after[row.stage] == row.after for row in done.stages)


def test_only_what_was_compiled_can_be_calibrated(store: Store) -> None:
    with pytest.raises(UnknownPipeline):
        calibrate(store, ["nothing"])


def three_terms(fixed: float, per_voxel: float, per_litre: float) -> list[Sample]:
    sizes = [(1000, 1.0), (5000, 5.0), (5000, 2.0), (5000, 3.0)]
    values = [fixed + per_voxel * voxels + per_litre * litres for voxels, litres in sizes]
    return [
        Sample(voxels=v, litres=m, seconds=s, peak_bytes=int(s * 1e6), output_bytes=4 * v)
        for (v, m), s in zip(sizes, values, strict=True)
    ]


@pytest.mark.parametrize(
    ("fixed", "per_voxel", "per_litre"), [(0.1, 1e-4, 0.0), (0.1, 0.0, 0.2), (0, 1e-4, 0.2)]
)
def test_what_grows_with_voxels_and_what_with_litres_is_told_apart(
    fixed: float, per_voxel: float, per_litre: float
) -> None:
    cost = fitted(three_terms(fixed, per_voxel, per_litre))
    assert cost.seconds(8000, 9.0) == pytest.approx(fixed + 8000 * per_voxel + 9 * per_litre, rel=0.01)
    assert cost.output_bytes_per_voxel == 4.0
    assert cost.measured


def test_time_that_falls_with_size_is_a_constant() -> None:
    falling = [
        Sample(voxels=1000, litres=1, seconds=0.5, peak_bytes=1, output_bytes=1),
        Sample(voxels=3000, litres=3, seconds=0.3, peak_bytes=1, output_bytes=1),
    ]
    cost = fitted(falling)
    assert (cost.per_voxel_s, cost.per_litre_s) == (0.0, 0.0)
    assert 0.3 <= cost.fixed_s <= 0.5


def test_one_sample_is_too_few() -> None:
    assert fitted(three_terms(1, 1, 1)[:1]) == UNMEASURED


@given(st.lists(st.tuples(st.integers(1, 10**8), st.floats(0.01, 100), st.integers(0, 10**10)), min_size=2))
def test_no_peak_that_was_seen_lies_above_its_prediction(seen: list[tuple[int, float, int]]) -> None:
    samples = [
        Sample(voxels=voxels, litres=litres, seconds=0.0, peak_bytes=peak, output_bytes=0)
        for voxels, litres, peak in seen
    ]
    cost = fitted(samples)
    assert all(cost.peak_bytes(s.voxels, s.litres) >= s.peak_bytes - 2 for s in samples)


def test_the_margin_is_a_tenth_or_an_amount_too_small_to_matter() -> None:
    assert within_margin(10**9, 1_099_000_000)
    assert not within_margin(10**9, 1_101_000_000)
    assert within_margin(0, PEAK_SLACK_BYTES)
    assert not within_margin(0, PEAK_SLACK_BYTES + 1)


def stage_over(node: Node, *, gives: tuple[str, ...] = ()) -> Stage:
    return Stage(
        id=f"stage of {node.id}",
        name=node.operator,
        nodes=(node.id,),
        takes=node.inputs,
        gives=gives or (node.id,),
        granularity="volume",
        pool="cpu",
        per_job=False,
        plans=(),
        cost=UNMEASURED,
    )


def test_members_of_a_family_on_the_same_builds_share_their_cost_and_others_do_not() -> None:
    networks = {name: f"sha256:{digit * 64}:5" for name, digit in zip("abcd", "1234", strict=True)}
    nodes = {
        name: Node(
            id=name,
            step="net",
            operator="network",
            version=1,
            parameters={"graph": digest, "variant": "", "segments": ["x"]},
            inputs=(SOURCE,),
        )
        for name, digest in networks.items()
    }
    readers = {
        f"{name} read": Node(
            id=f"{name} read", step="t", operator="threshold", version=1, parameters={}, inputs=(name,)
        )
        for name in networks
    }

    def bound(build: str) -> BoundNetwork:
        choice = Gated(build=build, engine="onnxruntime", precision="fp32", passed=True, figures={})
        return BoundNetwork(variant="", choices=(choice,))

    binding = Binding(
        machine={},
        plans={},
        stages=tuple(stage_over(node) for node in [*nodes.values(), *readers.values()]),
        networks={networks["a"]: bound("one"), networks["b"]: bound("one"), networks["c"]: bound("two")},
    )
    keys = cost_keys(binding, nodes | readers)
    for suffix in ("", " read"):
        by_member = {name: keys[f"stage of {name}{suffix}"] for name in networks}
        assert by_member["a"] == by_member["b"]
        assert len(set(by_member.values())) == 3


def test_a_networks_tiles_are_timed_apart_from_what_every_run_costs() -> None:
    class Session:
        """Works for every item of the batch."""

        fed: ClassVar[list[tuple[int, ...]]] = []

        def run(self, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            self.fed.append(inputs["x0"].shape)
            for _ in range(40 * len(inputs["x0"])):
                np.sort(np.arange(20_000)[::-1])
            return []

    feed = {"x0": np.zeros((4, 1, 8, 8), np.float32), "scale": np.ones((1, 3), np.float32)}
    cost = tile_cost(Heard(Session(), feed), repeats=3)  # type: ignore[arg-type]
    assert cost is not None
    assert (cost.shape, cost.batch) == ((1, 8, 8), 4)
    assert set(Session.fed) == {(1, 1, 8, 8), (4, 1, 8, 8)}
    assert cost.per_tile_s > cost.fixed_s


def test_the_peak_of_a_run_sees_what_was_freed_before_its_end() -> None:
    def run() -> int:
        return int(np.ones(4_000_000, np.float64).sum())

    give_back_freed()  # by the tests before this one
    result, peak = peak_bytes_of(run)
    assert result == 4_000_000
    assert peak >= 31_000_000


def test_a_value_is_as_large_as_its_arrays() -> None:
    assert sum(array.nbytes for array in arrays_of((np.zeros(3, np.float32), b"ab", 5))) == 14


@pytest.mark.slow
def test_no_stage_of_a_bundled_pipeline_takes_more_memory_than_is_predicted(store: Store) -> None:
    lungs = read_pipeline(pipeline_path("ct-lungs-net"))
    compile_pipelines(store, [lungs])
    assert store.names.get(plan_name("ct-lungs-net")) is not None
    found = predictions(store, ["ct-lungs-net"])
    assert {"decode", "stack", "encode_seg"} < {p.name for p in found}
    low = [p for p in found if not within_margin(p.predicted_peak_bytes, p.real_peak_bytes)]
    assert [(p.name, p.predicted_peak_bytes, p.real_peak_bytes) for p in low] == []
    largest = max(found, key=lambda p: p.real_peak_bytes)
    assert largest.predicted_peak_bytes < 2 * largest.real_peak_bytes
    predicted, real = sum(p.predicted_s for p in found), sum(p.real_s for p in found)
    assert 0.5 < predicted / real < 2
    current = current_binding(store)
    assert current is not None
    with_tiles = [stage for stage in current[1].stages if stage.cost.tiles is not None]
    assert len(with_tiles) == 1
    assert msgspec.to_builtins(with_tiles[0].cost.tiles)["per_tile_s"] > 0

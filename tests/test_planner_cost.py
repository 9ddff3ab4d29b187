"""Costs are measured once per stage and machine, and a stage that cannot run has a default."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from models.operators.base import KernelContext
from models.pipeline import Step
from models.values import Value
from object_store.opening import Store, open_store
from planner.binding import CostModel
from planner.compile import current_binding
from planner.cost import Sample, fitted, measured_costs, remembered_costs
from planner.memory import peak_bytes_of, value_bytes
from tests.fake_operators import FAKES, FakeAdd
from tests.planner_cases import compile_fakes, fake_operator, things


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeFailing(FakeAdd):
    name: ClassVar[str] = "failing"

    def apply(self, inputs: list[Value], context: KernelContext) -> Value:  # type: ignore[override]
        raise RuntimeError("no phantom, please")


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
    costing = measured_costs(store, fake_operator, seen.append)
    compile_fakes(store, [things("a")], costing=costing)
    assert seen == ["decode", "stack", "add+threshold", "measure", "encode_seg"]
    assert all(cost.measured for cost in costs(store).values())
    first = remembered_costs(store)
    seen.clear()
    compile_fakes(store, [things("b", above=2.0)], costing=costing)
    assert set(seen) == {"add", "threshold", "measure", "encode_seg"}
    assert first.items() <= remembered_costs(store).items()


def test_a_stage_that_fails_on_the_phantom_and_those_after_it_keep_the_default(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAKES, "failing", FakeFailing)
    failing = things(steps=[Step(name="lifted", operator=FakeFailing(amount=1.0), inputs=("volume",))])
    compile_fakes(store, [failing], costing=measured_costs(store, fake_operator))
    measured = {name: cost.measured for name, cost in costs(store).items()}
    assert measured == {
        "decode": True,
        "stack": True,
        "failing+threshold": False,
        "measure": False,
        "encode_seg": False,
    }


def test_the_line_goes_through_both_samples() -> None:
    cost = fitted([Sample(1000, 0.3, 8000, 4000), Sample(3000, 0.5, 24000, 12000)])
    assert cost.seconds(1000) == pytest.approx(0.3)
    assert cost.seconds(3000) == pytest.approx(0.5)
    assert (cost.peak_bytes(2000), cost.output_bytes_per_voxel) == (16000, 4.0)


def test_time_that_falls_with_size_is_a_constant() -> None:
    cost = fitted([Sample(1000, 0.5, 1, 1), Sample(3000, 0.3, 1, 1)])
    assert (cost.fixed_s, cost.per_voxel_s) == (0.3, 0.0)


def test_the_peak_of_a_run_sees_what_was_freed_before_its_end() -> None:
    def run() -> int:
        return int(np.ones(4_000_000, np.float64).sum())

    result, peak = peak_bytes_of(run)
    assert result == 4_000_000
    assert peak >= 32_000_000


def test_a_value_is_as_large_as_its_arrays() -> None:
    assert value_bytes((np.zeros(3, np.float32), b"ab", 5)) == 14

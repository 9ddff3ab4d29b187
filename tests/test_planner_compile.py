"""Plans depend on pipelines alone; the binding shares what plans have in common."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import PipelineError
from models.pipeline import Step
from models.values import LabelMap, Segmentation
from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.errors import NothingToRollBackTo
from object_store.opening import Store, open_store
from planner.bind import cannot_compute
from planner.binding import Binding
from planner.errors import CannotCompute, NotChecked, NotPromoted, UnknownPipeline, Unreadable
from planner.execute import run_plan, run_stage
from planner.live import compiled_plan, current_binding
from planner.names import BINDING, plan_name, promoted_name
from planner.plan import SOURCE, read_plan
from planner.promote import promote, rollback
from planner.references import references
from planner.resources import StoreResources
from tests.fake_operators import FAKES, FakeAdd, FakeThreshold, FakeWeighted
from tests.planner_cases import bind_fakes, binding_of, compile_fakes, context, fake_operator, series, things


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


promote_fakes: Any = partial(
    promote, binder=bind_fakes, cannot=partial(cannot_compute, operators=fake_operator)
)
rollback_fakes: Any = partial(
    rollback, binder=bind_fakes, cannot=partial(cannot_compute, operators=fake_operator)
)


def promoted(store: Store, tenant: str) -> Digest | None:
    return store.names.get(promoted_name(tenant, "things"))


def test_any_order_of_compilation_gives_the_same_plans_and_the_same_binding(tmp_path: Path) -> None:
    pipelines = [things("a"), things("b", above=2.0), things("c", above=3.0)]
    seen = set()
    for number, order in enumerate(itertools.permutations(pipelines)):
        with open_store(tmp_path / str(number)) as store:
            for pipeline in order:
                compile_fakes(store, [pipeline])
            current = current_binding(store)
            assert current is not None
            seen.add((*(str(compiled_plan(store, name)[0]) for name in "abc"), str(current[0])))
    assert len(seen) == 1


def test_a_plan_survives_its_bytes(store: Store) -> None:
    (compiled,) = compile_fakes(store, [things()])
    assert compiled.new
    assert read_plan(store.objects.get(compiled.digest)) == compiled.plan
    assert compiled_plan(store, "things") == (compiled.digest, compiled.plan)
    assert not compile_fakes(store, [things()])[0].new


def test_step_names_are_for_people_and_do_not_change_what_is_shared(store: Store) -> None:
    renamed = things("renamed")
    renamed = replace(
        renamed,
        steps=tuple(
            replace(s, name=s.name + "-x", inputs=tuple(i if i == "series" else i + "-x" for i in s.inputs))
            for s in renamed.steps
        ),
        outputs=tuple(replace(o, mask="thing-x", measurements="numbers-x") for o in renamed.outputs),
    )
    one, other = compile_fakes(store, [things(), renamed])
    assert [node.id for node in one.plan.nodes] == [node.id for node in other.plan.nodes]
    assert all(len(stage.plans) == 2 for stage in binding_of(store).stages)


def test_equal_steps_of_two_pipelines_are_one_stage(store: Store) -> None:
    compile_fakes(store, [things("a"), things("b", above=2.0)])
    shared = {stage.name for stage in binding_of(store).stages if len(stage.plans) == 2}
    alone = [stage.name for stage in binding_of(store).stages if len(stage.plans) == 1]
    assert shared == {"decode", "stack", "add"}
    assert sorted(alone) == ["encode_seg"] * 2 + ["measure"] * 2 + ["threshold"] * 2


def test_a_chain_is_one_stage_and_a_branch_is_not(store: Store) -> None:
    chain = [
        Step(name="l1", operator=FakeAdd(amount=2.0), inputs=("volume",)),
        Step(name="l2", operator=FakeAdd(amount=3.0), inputs=("l1",)),
        Step(name="thing", operator=FakeThreshold(above=5.0), inputs=("l2",)),
        Step(name="numbers", operator=things().step("numbers").operator, inputs=("thing", "lifted")),
    ]
    compile_fakes(store, [things(steps=chain)])
    names = [stage.name for stage in binding_of(store).stages]
    assert names == ["decode", "stack", "add", "add+add+threshold", "measure", "encode_seg"]
    (joined,) = [s for s in binding_of(store).stages if s.name == "add+add+threshold"]
    assert len(joined.gives) == 1
    assert joined.takes == binding_of(store).stages[1].gives


def test_stages_are_cut_at_granularity_pool_and_job(store: Store) -> None:
    compile_fakes(store, [things()])
    facts = {s.name: (s.granularity, s.pool, s.per_job) for s in binding_of(store).stages}
    assert facts["decode"] == ("image", "gil", False)
    assert facts["stack"] == ("volume", "cpu", False)
    assert facts["encode_seg"] == ("volume", "gil", True)


def test_stages_give_what_the_whole_plan_gives(store: Store) -> None:
    compiled = compile_fakes(store, [things("a"), things("b", above=2.0)])
    source = series()
    for digest, plan in ((str(c.digest), c.plan) for c in compiled):
        whole = run_plan(plan, source, context(source), operators=fake_operator)
        values: dict[str, object] = {SOURCE: source}
        for stage in binding_of(store).stages_of(digest):
            inputs = {node: (values[node],) for node in stage.takes}
            nodes = [plan.node(node) for node in stage.nodes]
            values |= run_stage(nodes, inputs, stage.gives, context(source), fake_operator)  # type: ignore[arg-type]
        (output,) = plan.outputs
        mask = values[output.mask]
        expected = whole[output.mask]
        assert isinstance(mask, LabelMap)
        assert isinstance(expected, LabelMap)
        np.testing.assert_array_equal(mask.labels, expected.labels)
        assert isinstance(values[output.segmentation], Segmentation)
        assert values[output.segmentation] == whole[output.segmentation]


def test_only_what_is_asked_for_is_computed(store: Store) -> None:
    (compiled,) = compile_fakes(store, [things()])
    source, asked = series(), []

    def remembered(node):  # type: ignore[no-untyped-def]
        asked.append(node.operator)
        return fake_operator(node)

    run_plan(compiled.plan, source, context(source), (compiled.plan.outputs[0].mask,), remembered)
    assert asked == ["decode", "stack", "add", "threshold"]


def test_files_become_digests_and_serve_from_the_store(store: Store, tmp_path: Path) -> None:
    weights = tmp_path / "w.npz"
    np.savez(weights, bias=np.array([4.0], np.float32))
    step = Step(name="lifted", operator=FakeWeighted(weights=str(weights)), inputs=("volume",))
    (compiled,) = compile_fakes(store, [things(steps=[step])])
    digest = Digest.of(weights.read_bytes())
    assert compiled.plan.blobs == (str(digest),)
    (node,) = [node for node in compiled.plan.nodes if node.operator == "weighted"]
    assert node.parameters == {"weights": str(digest)}
    resources = StoreResources(store.objects.root)
    assert resources.parameters(str(digest))["bias"].tolist() == [4.0]
    assert resources.parameters(str(digest)) is resources.parameters(str(digest))


def test_nothing_is_named_when_one_pipeline_is_wrong(store: Store) -> None:
    wrong = things("wrong", steps=[Step(name="extra", operator=FakeAdd(amount=1.0), inputs=("volume",))])
    with pytest.raises(PipelineError, match="no output needs"):
        compile_fakes(store, [things(), wrong])
    assert store.names.items() == {}


def test_promotion_gives_a_tenant_the_compiled_plan_and_rollback_the_one_before(store: Store) -> None:
    (first,) = compile_fakes(store, [things()])
    promote_fakes(store, "local", "things")
    (second,) = compile_fakes(store, [things(above=9.0)])
    assert promoted(store, "local") == first.digest
    assert str(first.digest) in binding_of(store).plans
    assert promote_fakes(store, "local", "things").plan == second.digest
    bind_fakes(store)
    assert str(first.digest) not in binding_of(store).plans
    assert rollback_fakes(store, "local", "things").plan == first.digest
    assert str(first.digest) in binding_of(store).plans
    assert promoted(store, "other") is None


def test_a_failed_golden_check_stops_a_promotion(store: Store) -> None:
    compile_fakes(store, [things()])
    with pytest.raises(NotChecked, match=r"Dice 0\.1"):
        promote_fakes(store, "local", "things", gate=lambda digest, plan: ("Dice 0.1",))
    assert promoted(store, "local") is None


def test_unknown_names_are_refused(store: Store) -> None:
    with pytest.raises(UnknownPipeline):
        promote(store, "local", "nothing")
    with pytest.raises(NotPromoted):
        rollback(store, "local", "nothing")


def test_garbage_collection_keeps_what_plans_and_the_binding_need(store: Store, tmp_path: Path) -> None:
    weights = tmp_path / "w.npz"
    weights.write_bytes(b"weights")
    step = Step(name="lifted", operator=FakeWeighted(weights=str(weights)), inputs=("volume",))
    (compiled,) = compile_fakes(store, [things(steps=[step])])
    junk = store.objects.put(b"junk")
    collected = collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    assert collected.deleted == (junk,)
    kept = [compiled.digest, Digest.parse(compiled.plan.blobs[0])]
    assert store.objects.missing(kept) == frozenset()


def test_a_plan_of_another_version_is_left_out_and_keeps_nobody_from_being_bound(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (old,) = compile_fakes(store, [things("old")])
    promote_fakes(store, "local", "old")
    monkeypatch.delitem(FAKES, "add")
    step = Step(name="thing", operator=FakeThreshold(above=1.0), inputs=("volume",))
    new = things("new", steps=[step])
    new = replace(new, steps=tuple(step for step in new.steps if step.name != "lifted"))
    (compiled,) = compile_fakes(store, [new])
    assert binding_of(store).plans == {str(compiled.digest): "new"}
    assert f"plan {old.digest} of old is left out" in caplog.text
    with pytest.raises(CannotCompute):
        promote_fakes(store, "local", "old")


def test_a_rollback_to_a_plan_of_another_version_is_refused_and_changes_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "w.npz"
    weights.write_bytes(b"weights")
    compile_fakes(store, [things()])
    promote_fakes(store, "local", "things")
    step = Step(name="lifted", operator=FakeWeighted(weights=str(weights)), inputs=("volume",))
    (second,) = compile_fakes(store, [things(steps=[step])])
    promote_fakes(store, "local", "things")
    monkeypatch.delitem(FAKES, "add")  # which only the first needs
    with pytest.raises(CannotCompute):
        rollback_fakes(store, "local", "things")
    assert promoted(store, "local") == second.digest


def test_a_rollback_binds_its_target_and_not_the_history_before_it(store: Store) -> None:
    plans = []
    for above in (1.0, 2.0, 3.0):
        plans += compile_fakes(store, [things(above=above)])
        promote_fakes(store, "local", "things")
    bind_fakes(store)
    assert binding_of(store).plans.keys() == {str(plans[2].digest)}
    assert rollback_fakes(store, "local", "things").plan == plans[1].digest
    assert binding_of(store).plans.keys() == {str(plans[1].digest), str(plans[2].digest)}
    assert rollback_fakes(store, "local", "things").plan == plans[0].digest
    with pytest.raises(NothingToRollBackTo):
        rollback_fakes(store, "local", "things")


def test_two_compiles_at_once_are_both_in_the_binding(tmp_path: Path) -> None:
    def compile_other() -> None:
        with open_store(tmp_path / "store") as other:
            compile_fakes(other, [things("second", above=2.0)])

    second = threading.Thread(target=compile_other)

    def slow(plans: Any, binding: Binding) -> Any:
        """Measuring, while somebody else compiles: as far as he gets within a moment."""
        second.start()
        second.join(0.5)
        return binding.stages

    with open_store(tmp_path / "store") as store:
        compile_fakes(store, [things("first")], costing=slow)
        second.join()
        assert sorted(binding_of(store).plans.values()) == ["first", "second"]


@pytest.mark.parametrize(
    "content",
    [b'{"format": "lightbox.plan/99"}', b"no JSON", b"\xff\xfe", b"[" * 100_000],
    ids=["another format", "no JSON", "no text", "too deep"],
)
def test_what_is_no_plan_is_named_and_keeps_nobody_from_being_bound(
    store: Store, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    alien = store.objects.put(content)
    store.names.set(promoted_name("local", "alien"), alien)
    store.names.set(plan_name("alien"), alien)
    store.names.set(BINDING, alien)
    (compiled,) = compile_fakes(store, [things()])
    assert binding_of(store).plans.keys() == {str(compiled.digest)}
    assert str(alien) in caplog.text
    with pytest.raises(Unreadable, match=str(alien)):
        promote_fakes(store, "local", "alien")
    store.names.set(BINDING, alien)
    assert promote_fakes(store, "local", "things").plan == compiled.digest
    assert binding_of(store).plans.keys() == {str(compiled.digest)}

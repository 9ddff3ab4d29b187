"""Planning as a whole, on generated networks: outputs stay, the order does not matter, twice is as once."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from models.operators.base import Resources
from models.operators.network import Network
from models.pipeline import Pipeline
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.bind import without_measuring
from planner.binding import Binding
from planner.compile import compile_pipelines
from planner.machine import machine_facts
from planner.networks.bind import bound_networks
from planner.networks.families.members import families
from planner.networks.families.register import Registration, register
from planner.networks.families.verify import verify_variant
from planner.networks.reading.opening import open_network
from planner.networks.structure import Opened
from planner.resources import StoreResources
from tests.generated_networks import Convolution, Recipe, in_other_words, recipes, written
from tests.networks import image, largest_difference, low_rank_variant, private_variant, run, sparse_variant

TOLERANCE = 1e-5
SIZE = 8

MEMBERS = (
    "site",
    "folded",
    "folded site",
    "low rank",
    "sparse",
    "private",
    "other weights",
    "other words",
)


def member(recipe: Recipe, kind: str, number: int) -> onnx.ModelProto:
    """A network of the recipe's structure, or nearly so, that is like its base in one way or another."""
    match kind:
        case "site":
            return written(recipe, site=number)
        case "folded":
            return written(recipe, folded=True)
        case "folded site":
            return written(recipe, site=number, folded=True)
        case "low rank":
            return low_rank_variant(written(recipe), number)
        case "sparse":
            return sparse_variant(written(recipe), number)
        case "private":
            return private_variant(written(recipe, site=number), number)
        case "other weights":
            return written(recipe, weights=number)
    return in_other_words(written(recipe), number)


@st.composite
def groups(draw: st.DrawFn, most: int = 3) -> list[onnx.ModelProto]:
    """A network and a few that are like it, in any order."""
    recipe = draw(recipes())
    kinds = draw(st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=most))
    models = [written(recipe), *(member(recipe, kind, number + 1) for number, kind in enumerate(kinds))]
    return draw(st.permutations(models))


@contextmanager
def fresh_store() -> Iterator[Store]:
    with TemporaryDirectory(prefix="properties-") as folder, open_store(Path(folder) / "store") as store:
        yield store


def opened(store: Store, model: onnx.ModelProto) -> Opened:
    path = store.objects.root.parent / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return open_network(path)


def registered(store: Store, models: Sequence[onnx.ModelProto]) -> list[Registration]:
    return [register(store, opened(store, model)) for model in models]


def planned(store: Store, networks: Sequence[str]) -> Resources:
    """As a worker has them that never saw these networks before; all of them must be bound."""
    bound = bound_networks(store, dict.fromkeys(networks, ()))
    assert bound.keys() == set(networks)
    binding = Binding(machine=machine_facts(), plans={}, stages=(), networks=bound)
    return StoreResources(store.objects.root).under(binding)


def state(store: Store) -> tuple[frozenset[Digest], Mapping[str, Digest]]:
    return frozenset(store.objects), store.names.items()


@given(groups())
@settings(max_examples=30, deadline=None)
def test_planned_outputs_equal_unplanned_ones(models: list[onnx.ModelProto]) -> None:
    with fresh_store() as store:
        networks = [str(done.network) for done in registered(store, models)]
        for network in networks:
            verify_variant(store, Digest.parse(network))
        resources = planned(store, networks)
        for model, network in zip(models, networks, strict=True):
            fed = image(model, 5, batch=2, size=SIZE)
            ours = resources.network(network).run({"x0": fed["input"]})
            assert largest_difference(ours, run(model, fed)) <= TOLERANCE


@given(groups())
@settings(max_examples=10, deadline=None)
def test_a_network_that_is_not_bound_yet_computes_what_was_imported(models: list[onnx.ModelProto]) -> None:
    with fresh_store() as store:
        networks = [str(done.network) for done in registered(store, models)]
        resources = StoreResources(store.objects.root)
        for model, network in zip(models, networks, strict=True):
            fed = image(model, 6, size=SIZE)
            ours = resources.network(network).run({"x0": fed["input"]})
            assert largest_difference(ours, run(model, fed)) <= TOLERANCE


@given(groups())
@settings(max_examples=10, deadline=None)
def test_equal_stores_come_of_equal_networks(models: list[onnx.ModelProto]) -> None:
    """Objects, names and builds: all that planning decided, byte for byte."""
    states = []
    for _ in range(2):
        with fresh_store() as store:
            networks = [str(done.network) for done in registered(store, models)]
            for network in networks:
                verify_variant(store, Digest.parse(network))
            bound = bound_networks(store, dict.fromkeys(networks, ()))
            states.append((*state(store), bound))
    assert states[0] == states[1]


@given(groups(), st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_a_network_has_one_digest_in_any_order_and_in_other_words(
    models: list[onnx.ModelProto], numbers: random.Random
) -> None:
    order = list(range(len(models)))
    numbers.shuffle(order)
    with fresh_store() as one, fresh_store() as other:
        first = [done.network for done in registered(one, models)]
        again = [in_other_words(models[place], numbers.randrange(1000)) for place in order]
        second = [done.network for done in registered(other, again)]
    assert second == [first[place] for place in order]


def test_sizes_may_be_read_off_values_that_are_taken_out() -> None:
    """Of a transposed convolution, whose size is not known beforehand, by way of an Identity."""
    plain = Convolution(
        kernel=1, dilation=1, groups=1, bias=False, transposed=False, norm="batch", activation="Relu"
    )
    upward = replace(plain, kernel=3, transposed=True)
    steps = (upward, replace(upward, norm="group"), plain, plain, replace(plain, norm="group"))
    model = written(Recipe(dims=2, width=4, steps=steps, opset=14, seed=0))
    with fresh_store() as store:
        first, second = registered(store, [model, in_other_words(model, 0)])
    assert first.network == second.network


@given(groups(), st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_registering_and_building_again_changes_nothing(models: list[onnx.ModelProto], seed: int) -> None:
    with fresh_store() as store:
        networks = [done.network for done in registered(store, models)]
        for network in networks:
            verify_variant(store, network)
        bound = bound_networks(store, dict.fromkeys(map(str, networks), ()))
        before = state(store)
        again = registered(store, [in_other_words(model, seed) for model in models])
        for network in networks:
            verify_variant(store, network)
        assert [done.network for done in again] == networks
        assert not any(done.new_base or done.bytes_added for done in again)
        assert bound_networks(store, dict.fromkeys(map(str, networks), ())) == bound
        assert state(store) == before


@given(recipes(), st.integers(1, 1000))
@settings(max_examples=10, deadline=None)
def test_another_normalisation_never_makes_another_family(recipe: Recipe, site: int) -> None:
    """Folded or not: where filters are large enough to be shared, sites share them."""
    with fresh_store() as store:
        models = [written(replace(recipe, width=32)), written(replace(recipe, width=32), site=site)]
        first, second = registered(store, models)
        assert second.family == first.network
        assert len(families(store)) == 1


def pipeline(store: Store, name: str, model: onnx.ModelProto) -> Pipeline:
    """The bundled network's pipeline with another network in it."""
    path = store.objects.root.parent / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    base = read_pipeline(pipeline_path("ct-lungs-net"))
    steps = tuple(
        replace(step, operator=replace(step.operator, graph=str(path)))
        if isinstance(step.operator, Network)
        else step
        for step in base.steps
    )
    return replace(base, name=name, steps=steps)


def compiled(store: Store, models: Mapping[str, onnx.ModelProto]) -> dict[str, Digest]:
    pipelines = [pipeline(store, name, model) for name, model in models.items()]
    done = compile_pipelines(store, pipelines, costing=without_measuring)
    return {one.plan.pipeline: one.digest for one in done}


@given(recipes(dims=(2,)), st.sampled_from(MEMBERS))
@settings(max_examples=6, deadline=None)
def test_plans_depend_neither_on_the_store_nor_on_the_order(recipe: Recipe, kind: str) -> None:
    models = {"a": written(recipe), "b": member(recipe, kind, 1)}
    with fresh_store() as one, fresh_store() as other:
        together = compiled(one, models)
        apart = {**compiled(other, {"b": models["b"]}), **compiled(other, {"a": models["a"]})}
    assert together == apart


@given(recipes(dims=(2,)), st.sampled_from(MEMBERS))
@settings(max_examples=6, deadline=None)
def test_compiling_what_is_compiled_changes_nothing(recipe: Recipe, kind: str) -> None:
    models = {"a": written(recipe), "b": member(recipe, kind, 1)}
    with fresh_store() as store:
        first = compiled(store, models)
        before = state(store)
        assert compiled(store, dict(reversed(models.items()))) == first
        assert state(store) == before

"""Promotion proves a variant that is kept with rounding; from then on it runs from what its family shares."""

from pathlib import Path

from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.opening import Store
from planner.networks.families.members import variants
from planner.plan import Plan
from planner.references import references
from planner.resources import StoreResources
from tests.networks import largest_difference, low_rank_variant, private_variant, saved, unet
from tests.networks_in_pipelines import answers, compiled, expected, network_in, promoted, with_network
from tests.planner_cases import binding_of


def test_a_variant_kept_with_rounding_runs_from_its_own_numbers_until_it_is_promoted(
    store: Store, tmp_path: Path
) -> None:
    base, folded = unet(3, (16, 32)), unet(3, (16, 32), norm="folded", norm_seed=7)
    compiled(store, with_network(saved(tmp_path, base, "base"), "base"))
    (one,) = compiled(store, with_network(saved(tmp_path, folded, "folded"), "folded"))
    graph = network_in(one.plan)
    variant = variants(store)[graph]
    assert not variant.exact
    assert variant.family != graph
    assert graph not in binding_of(store).networks
    exact = answers(StoreResources(store.objects.root).under(binding_of(store)), graph, folded)
    assert largest_difference(exact, expected(folded)) <= 1e-6
    promoted(store, "folded")
    verified = variants(store)[graph].verified
    assert verified is not None
    assert verified.passed
    assert binding_of(store).networks[graph].family == variant.family
    shared = answers(StoreResources(store.objects.root).under(binding_of(store)), graph, folded)
    assert largest_difference(shared, expected(folded)) <= 1e-5


def test_the_golden_cases_of_a_promotion_run_under_the_binding_it_makes(store: Store, tmp_path: Path) -> None:
    compiled(store, with_network(saved(tmp_path, unet(3, (16, 32)), "base"), "base"))
    folded = unet(3, (16, 32), norm="folded", norm_seed=7)
    (one,) = compiled(store, with_network(saved(tmp_path, folded, "folded"), "folded"))
    seen: list[bool] = []

    def gate(digest: Digest, plan: Plan) -> tuple[str, ...]:
        seen.append(network_in(plan) in binding_of(store).networks)
        return ()

    promoted(store, "folded", gate=gate)
    assert seen == [True]
    assert network_in(one.plan) in binding_of(store).networks


def test_a_low_rank_variant_that_is_promoted_computes_what_was_imported(store: Store, tmp_path: Path) -> None:
    base = unet(3, (16, 32))
    model = low_rank_variant(base, 1)
    compiled(store, with_network(saved(tmp_path, base, "base"), "base"))
    (one,) = compiled(store, with_network(saved(tmp_path, model, "adapted"), "adapted"))
    promoted(store, "adapted")
    resources = StoreResources(store.objects.root).under(binding_of(store))
    assert network_in(one.plan) in binding_of(store).networks
    assert largest_difference(answers(resources, network_in(one.plan), model), expected(model)) <= 1e-5


def test_a_variant_with_a_large_tensor_of_its_own_runs_with_it_when_the_binding_alone_is_left(
    store: Store, tmp_path: Path
) -> None:
    base = unet(3, (16, 32, 64))
    model = private_variant(unet(3, (16, 32, 64), norm="folded", norm_seed=7), 1)
    compiled(store, with_network(saved(tmp_path, base, "base"), "base"))
    (one,) = compiled(store, with_network(saved(tmp_path, model, "tuned"), "tuned"))
    graph = network_in(one.plan)
    variant = variants(store)[graph]
    assert variant.family != graph
    assert set(variant.kept.values()) == {"scaled", "stored"}
    promoted(store, "tuned")
    bound = binding_of(store)
    assert bound.networks[graph].family == variant.family
    for name in list(store.names.items()):
        if name != "binding":
            store.names.delete(name)
    collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    resources = StoreResources(store.objects.root).under(bound)
    assert largest_difference(answers(resources, graph, model), expected(model)) <= 1e-5

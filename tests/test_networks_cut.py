"""What several networks share is found by content, and is cut where that costs least."""

import itertools
from collections.abc import Mapping

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.networks.cutting import cut as cutting
from planner.networks.cutting.cut import Cut, cut
from planner.networks.cutting.extract import extracted
from planner.networks.cutting.flow import FlowGraph
from planner.networks.cutting.union import Whole, union_of
from tests.joint_networks import Family, family_of
from tests.networks import encoder_decoder, meshnet, unet

FED = (1, 1, 256, 256)
SMALL, LARGE = (8, 16), (32, 64, 128, 256)


def shapes(found: Cut | None) -> list[tuple[int, bool]]:
    assert found is not None
    return [(len(group.users), group.shared) for group in found.groups]


def wholes(*models: onnx.ModelProto) -> Mapping[str, Whole]:
    return family_of(models).wholes


def test_five_decoders_over_one_encoder_are_the_encoder_once_and_five_decoders() -> None:
    found = cut(wholes(*[encoder_decoder(1, 10 + i, LARGE) for i in range(5)]), FED)
    assert found is not None
    assert shapes(found) == [(5, True), *[(1, False)] * 5]
    encoder, *decoders = found.groups
    assert len(found.takes(encoder)) == 1
    assert len(found.gives(encoder)) == len(LARGE)  # what goes down, and every skip but that of the bottom
    assert all(found.takes(decoder) == found.gives(encoder) for decoder in decoders)
    types = [found.union.ops[op].op.type for op in encoder.ops]
    assert types.count("Conv") == 2 * len(LARGE)
    assert "ConvTranspose" not in types


def test_heads_that_take_hardly_longer_than_a_call_are_one_graph_with_the_backbone() -> None:
    found = cut(wholes(*[unet(1, LARGE, head_seed=i) for i in range(5)]), FED)
    assert found is not None
    assert shapes(found) == [(5, True)]
    assert len(found.gives(found.groups[0])) == 5
    assert found.together_s < 0.25 * found.apart_s


def test_a_stem_of_all_and_a_backbone_of_some_are_two_shared_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "APART_SHARE", 1e9)  # everything stays apart
    models = [
        encoder_decoder(1, 10, LARGE),
        encoder_decoder(1, 11, LARGE),
        encoder_decoder(1, 11, LARGE, head_seed=7),
    ]
    found = cut(wholes(*models), FED)
    assert shapes(found) == [(3, True), (2, True), (1, False), (1, False), (1, False)]


@pytest.mark.parametrize(
    "models",
    [
        [unet(seed) for seed in range(3)],
        [unet(1, LARGE, norm_seed=seed) for seed in range(3)],
        [unet(1), unet(1, dims=3)],
    ],
    ids=["folds", "site variants", "other inputs"],
)
def test_networks_that_share_no_work_are_not_taken_apart(models: list[onnx.ModelProto]) -> None:
    assert cut(wholes(*models), FED) is None


def test_where_all_values_are_equally_large_all_that_is_equal_is_shared() -> None:
    found = cut(wholes(*[meshnet(1, 16, head_seed=i, dims=2) for i in range(3)]), FED)
    assert found is not None
    assert shapes(found) == [(3, True)]
    assert len(found.gives(found.groups[0])) == 3


def test_equal_decoders_on_other_encoders_are_one_suffix_held_once() -> None:
    family = family_of([encoder_decoder(seed, 10, (32, 64, 128, 256, 512)) for seed in (1, 2)])
    found = cut(family.wholes, (1, 1, 64, 64))
    assert found is not None
    assert shapes(found) == [(1, False), (1, True), (1, False), (1, True)]
    parts = [extracted(found, group) for group in found.groups]
    assert parts[1].identity() == parts[3].identity()
    assert parts[0].identity() != parts[2].identity()
    saved = sum(tensor.nbytes for tensor in parts[1].structure.tensors.values())
    assert found.held_once_bytes == saved > 10e6


def test_equal_parts_are_equal_in_every_company() -> None:
    decoders = [encoder_decoder(1, 10 + i, LARGE) for i in range(4)]
    seen: dict[object, bytes] = {}
    for chosen in itertools.combinations(range(4), 2):
        family = family_of([decoders[i] for i in chosen])
        found = cut(family.wholes, FED)
        assert found is not None
        encoder, *heads = [extracted(found, group).identity() for group in found.groups]
        order = [family.networks.index(group.users[0]) for group in found.groups[1:]]
        for name, identity in [
            ("encoder", encoder),
            *[(chosen[o], h) for o, h in zip(order, heads, strict=True)],
        ]:
            assert seen.setdefault(name, identity) == identity
    assert len(set(seen.values())) == 5


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_of_networks_does_not_matter(order: list[int]) -> None:
    family = MIXED
    given_ = {family.networks[i]: family.wholes[family.networks[i]] for i in order}
    found, expected = cut(given_, FED), cut(family.wholes, FED)
    assert found is not None
    assert expected is not None
    ours = [extracted(found, group) for group in found.groups]
    theirs = [extracted(expected, group) for group in expected.groups]
    assert ours == theirs
    assert found.together_s == expected.together_s


@settings(max_examples=25, deadline=None)
@given(
    arcs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=14),
    never=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=3),
)
def test_the_cut_costs_no_more_than_any_other(
    arcs: list[tuple[int, int, int]], never: list[tuple[int, int]]
) -> None:
    def cost(side: frozenset[int]) -> int | None:
        if any(a in side and b not in side for a, b in never):
            return None
        return sum(capacity for a, b, capacity in arcs if a in side and b not in side)

    flow: FlowGraph[int] = FlowGraph()
    for tail, head, capacity in arcs:
        flow.arc(tail, head, capacity)
    for tail, head in never:
        flow.never(tail, head)
    ours = cost(flow.source_side(0, 5) | {0})
    inner = itertools.chain.from_iterable(itertools.combinations(range(1, 5), n) for n in range(5))
    costs = [cost(frozenset({0, *chosen})) for chosen in inner]
    assert ours == min(c for c in costs if c is not None)


def test_the_union_has_every_operator_once() -> None:
    union = union_of(MIXED.wholes, FED)
    assert union is not None
    separate = sum(len(whole.structure.ops) for whole in MIXED.wholes.values())
    assert sum(len(op.users) for op in union.ops.values()) == separate
    assert len(union.ops) < separate
    made: set[str] = set()
    for op in union.ops.values():
        assert set(union.computed(op)) <= made | union.inputs
        made.update(op.outputs)


def test_only_tensors_that_are_equal_in_every_bit_are_shared() -> None:
    family = family_of([unet(1, LARGE, head_seed=1), unet(1, LARGE, head_seed=2)])
    first, second = family.networks
    digests = dict(family.wholes[second].digests)
    digests["t0"] = "another"
    changed = {first: family.wholes[first], second: Whole(family.wholes[second].structure, digests)}
    assert cut(family.wholes, FED) is not None
    assert cut(changed, FED) is None


MIXED: Family = family_of(
    [
        encoder_decoder(1, 10, LARGE),
        encoder_decoder(1, 11, LARGE),
        unet(1, LARGE, head_seed=3),
        unet(2, LARGE),
    ]
)

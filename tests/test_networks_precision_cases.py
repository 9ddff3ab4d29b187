"""Cases of a precision search: which labels each is held against, and one image cut in two."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from planner.networks.precision import search
from planner.networks.precision.cases import Case, as_cases, halved
from planner.networks.precision.gate import Gate
from planner.networks.precision.search import judge_uniform, plan_precision
from planner.networks.precision.trial import Judged
from planner.networks.structure import Opened, Structure
from tests.precision_cases import dilated_network, images, largest, small_unet
from tests.written_graphs import Array


class Thresholds:
    """A session: class 1 where the input is above a number. heard: how often it was asked."""

    def __init__(self, least: float = 0.5) -> None:
        self.least, self.heard = least, 0

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        self.heard += 1
        return [np.concatenate([inputs["x0"] * 0 + self.least, inputs["x0"]], axis=1).astype(np.float32)]


class AlwaysThis:
    """A session that answers the same to everything."""

    def __init__(self, outputs: list[Array]) -> None:
        self._outputs = outputs

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        return self._outputs


def of_one_name(*feeds: Mapping[str, Array]) -> list[Case]:
    return [Case("phantom seed 7", (feed,)) for feed in feeds]


def test_cases_of_one_name_are_each_held_against_their_own_labels() -> None:
    exact = Thresholds()
    first, second = images(2, (40, 40))
    judged = Judged(exact, {}, largest, Gate(), of_one_name(first, second))
    assert judged.verdict(Thresholds()).passed
    stuck = AlwaysThis(exact.run(first))
    assert not judged.verdict(stuck).passed
    assert not judged.without_parameters().verdict(stuck).passed


def test_cases_of_one_name_and_other_sizes_are_judged() -> None:
    (first,), (second,) = images(1, (40, 40)), images(1, (24, 32))
    verdict = Judged(Thresholds(), {}, largest, Gate(), of_one_name(first, second)).verdict(Thresholds())
    assert (verdict.passed, verdict.segments) == (True, 2)


def test_labels_in_fp32_are_computed_once_for_all_that_is_judged_by_them() -> None:
    exact = Thresholds()
    judged = Judged(exact, {}, largest, Gate(), of_one_name(*images(3, (8, 8))))
    assert judged.show_segments()
    judged.verdict(Thresholds())
    judged.without_parameters().verdict(Thresholds())
    assert exact.heard == 3


def test_it_is_known_whether_any_case_shows_a_segment() -> None:
    cases = of_one_name(*images(2, (8, 8)))
    assert Judged(Thresholds(0.5), {}, largest, Gate(), cases).show_segments()
    assert not Judged(Thresholds(2.0), {}, largest, Gate(), cases).show_segments()


def nothing(outputs: list[Array]) -> Array:
    """Background everywhere."""
    return np.zeros_like(largest(outputs))


def test_where_no_case_shows_a_segment_nothing_but_plain_fp32_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dilated = dilated_network()

    def searched(*_: object) -> None:
        raise AssertionError("nothing could come of it")

    monkeypatch.setattr(search._Search, "_search", searched)
    plan = plan_precision(
        dilated.structure,
        dilated.tensors,
        calibration=images(1, (16, 16, 16)),
        held_out=images(1, (16, 16, 16), seed=14),
        labels=nothing,
    )
    assert [(tried.engine, tried.precision) for tried in plan.tried] == [("onnxruntime", "fp32")]
    assert "no case shows any segment in fp32, so there is nothing to judge another way by" in plan.notes
    tried = judge_uniform(
        dilated.structure,
        dilated.tensors,
        "onnxruntime",
        "int8",
        calibration=images(1, (16, 16, 16)),
        labels=nothing,
    )
    assert (tried.passed, tried.refused) == (False, plan.notes[-1])


def test_held_out_cases_that_show_nothing_are_mentioned() -> None:
    dilated = dilated_network()
    calibration, held_out = images(1, (16, 16, 16)), images(1, (8, 8, 8))

    def labels(outputs: list[Array]) -> Array:
        return largest(outputs) if outputs[0].shape[-1] == 16 else nothing(outputs)

    plan = plan_precision(
        dilated.structure,
        dilated.tensors,
        calibration=calibration,
        held_out=held_out,
        labels=labels,
        engines=("onnxruntime",),
        budget_s=0,
    )
    assert "no held-out case shows a segment: they tell only that none is made up" in plan.notes
    assert plan.choices["onnxruntime"].tried.passed


def test_a_case_without_a_feed_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="held-out case 'upper half' has no feed"):
        as_cases([Case("lower half", ({},)), Case("upper half", ())], "held-out case")


# -- one image in two --------------------------------------------------------------------------------------


def numbered(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def fixed(network: Opened, shape: tuple[int | str, ...]) -> Structure:
    """As if it took these sizes only."""
    import msgspec

    (port,) = network.structure.inputs
    return msgspec.structs.replace(network.structure, inputs=(msgspec.structs.replace(port, shape=shape),))


def two_of(structure: Structure, *arrays: Array, **options: Any) -> list[list[Array]]:
    halves = halved(structure, Case("series", tuple({"x0": array} for array in arrays)), **options)
    assert halves is not None
    return [[feed["x0"] for feed in case.feeds] for case in (halves.calibration, halves.held_out)]


def test_of_several_feeds_every_second_is_held_out() -> None:
    tiles = [numbered(4, 1, 8, 8) + place for place in range(5)]
    calibration, held_out = two_of(small_unet().structure, *tiles)
    assert [float(tile.flat[0]) for tile in calibration] == [0, 2, 4]
    assert [float(tile.flat[0]) for tile in held_out] == [1, 3]


def test_of_the_items_of_an_only_feed_every_second_is_held_out() -> None:
    slices = numbered(10, 1, 8, 8)
    calibration, held_out = two_of(small_unet().structure, slices)
    np.testing.assert_array_equal(calibration, [slices[0::2]])
    np.testing.assert_array_equal(held_out, [slices[1::2]])


@pytest.mark.parametrize(
    ("sides", "multiple_of", "axis", "half"),
    [
        ((10, 64, 48), 1, 3, 32),
        ((40, 24, 24), 1, 2, 16),  # 40 is 5 eights, and 8 may be asked for
        ((40, 24, 24), 4, 2, 20),
        ((48, 40, 24), 16, 2, 16),  # 40 is none
        ((7, 9, 267), 1, 4, 133),
        ((16, 16, 32), 1, 4, 16),
    ],
)
def test_an_only_feed_of_one_item_is_cut_along_its_longest_side(
    sides: tuple[int, int, int], multiple_of: int, axis: int, half: int
) -> None:
    image = numbered(1, 1, *sides)
    (first,), (second,) = two_of(dilated_network().structure, image, multiple_of=multiple_of)
    np.testing.assert_array_equal(first, np.take(image, range(half), axis))
    length = image.shape[axis]
    np.testing.assert_array_equal(second, np.take(image, range(length - half, length), axis))


def test_a_side_that_the_network_fixes_is_not_cut() -> None:
    image = numbered(1, 1, 64, 16, 16)
    (first,), (second,) = two_of(fixed(dilated_network(), ("n", 1, 64, "b", 16)), image)
    np.testing.assert_array_equal(first, image[:, :, :, :8])
    np.testing.assert_array_equal(second, image[:, :, :, 8:])


def test_halves_say_how_they_were_cut() -> None:
    halves = halved(dilated_network().structure, Case("series", ({"x0": numbered(1, 1, 8, 8, 8)},)))
    assert halves is not None
    assert halves.how == "calibrated on one half of it and judged on the other half"
    assert [halves.calibration.name, halves.held_out.name] == ["series, one half", "series, the other half"]


@pytest.mark.parametrize("count", [1, 3])
def test_an_image_of_a_fixed_size_is_in_one_piece(count: int) -> None:
    structure = fixed(dilated_network(), (count, 1, 8, 8, 8))
    assert halved(structure, Case("series", ({"x0": numbered(count, 1, 8, 8, 8)},))) is None


def test_an_image_whose_sides_are_one_multiple_is_in_one_piece() -> None:
    case = Case("series", ({"x0": numbered(1, 1, 16, 16, 16)},))
    assert halved(dilated_network().structure, case, multiple_of=16) is None

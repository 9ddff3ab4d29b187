"""Explaining, drawing and comparing say what is there."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.pipeline import Step
from object_store.opening import Store, open_store
from planner.errors import UnknownPipeline
from planner.pictures.layout import GAP_X, Box, place
from planner.pictures.plans import draw
from planner.reports.diff import differences
from planner.reports.explain import explain, together
from tests.fake_operators import FakeAdd
from tests.planner_cases import compile_fakes, things


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        compile_fakes(opened, [things("a"), things("b", above=2.0), things("c", above=2.0)])
        yield opened


def test_every_stage_says_who_shares_it(store: Store) -> None:
    (explained,) = explain(store, ["b"], voxels=1000)
    assert {stage.name: stage.shared_with for stage in explained.stages} == {
        "decode": ("a", "c"),
        "stack": ("a", "c"),
        "add": ("a", "c"),
        "threshold": ("c",),
        "measure": ("c",),
        "encode_seg": ("c",),
    }
    assert explained.seconds == pytest.approx(sum(stage.seconds for stage in explained.stages))


def test_together_counts_a_shared_stage_once(store: Store) -> None:
    sums = together(explain(store, ["a", "b"], voxels=1000))
    assert (sums.stages, sums.stages_alone) == (9, 12)
    assert sums.seconds == pytest.approx(sums.seconds_alone * 9 / 12)


def test_a_pipeline_that_was_never_compiled_cannot_be_explained(store: Store) -> None:
    with pytest.raises(UnknownPipeline):
        explain(store, ["nothing"])


def test_the_picture_shows_every_stage_once_and_is_well_formed(store: Store) -> None:
    explained = explain(store, ["a", "b", "c"])
    picture = draw(explained)
    root = ET.fromstring(picture)
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sum(text.startswith("images") for text in texts) == 1
    assert sum(text.startswith("thing") for text in texts) == 2
    assert sum(bool(re.match(r"[abc] 1$", text)) for text in texts) == 3
    assert draw(explained) == picture


def test_names_are_escaped_in_the_picture(store: Store) -> None:
    (explained,) = explain(store, ["a"])
    odd = draw([replace(explained, title="<Lungs> & 'more'")])
    assert "&lt;Lungs&gt; &amp;" in odd
    ET.fromstring(odd)


@settings(max_examples=50, deadline=None)
@given(
    sources=st.lists(st.lists(st.integers(0, 100), max_size=3), min_size=1, max_size=14),
    hints=st.lists(st.integers(0, 3), min_size=14, max_size=14),
)
def test_boxes_never_overlap_and_readers_lie_below(sources: list[list[int]], hints: list[int]) -> None:
    boxes = []
    for number, chosen in enumerate(sources):
        inputs = tuple({f"b{index % number}" for index in chosen}) if number else ()
        boxes.append(Box(f"b{number}", 100 + 10.0 * number, 40, inputs, float(hints[number])))
    layout = place(boxes)
    by_id = {box.id: box for box in boxes}
    for one, other in combinations(boxes, 2):
        first, second = layout.corners[one.id], layout.corners[other.id]
        beside = abs(first.x - second.x) + 0.1 >= GAP_X + (one.width if first.x < second.x else other.width)
        above = abs(first.y - second.y) >= 40
        assert beside or above
    for box in boxes:
        for source in box.inputs:
            assert layout.corners[source].y + by_id[source].height < layout.corners[box.id].y


def test_a_difference_is_named_by_its_setting_and_nothing_after_it_shows(store: Store) -> None:
    before, after = compile_fakes(
        store,
        [
            things("a"),
            things("a2", steps=[Step(name="lifted", operator=FakeAdd(amount=7), inputs=("volume",))]),
        ],
    )
    found = {d.key: (d.before, d.after) for d in differences(before.plan, after.plan)}
    assert found == {"pipeline": ("a", "a2"), "steps.lifted.amount": (1.0, 7.0)}
    assert differences(before.plan, before.plan) == ()


def test_the_legend_stays_in_the_picture_and_tells_colours_from_dots(store: Store) -> None:
    for names in (["a"], ["a", "b", "c"]):
        root = ET.fromstring(draw(explain(store, names)))
        width = float(root.attrib["width"])
        found = {
            "".join(text.itertext()): (float(text.attrib["x"]), float(text.attrib["font-size"]))
            for text in root.iter("{http://www.w3.org/2000/svg}text")
            if "x" in text.attrib and "font-size" in text.attrib
        }
        assert "compiled pipelines that need it, drawn here or not:" in found
        assert "dots: those of the pipelines drawn here that need it" in found
        for words, (x, size) in found.items():
            assert x + 0.5 * size * len(words) <= width or x > width / 2, words


def test_a_stage_that_needs_next_to_nothing_is_not_said_to_need_0_mb(store: Store) -> None:
    (explained,) = explain(store, ["a"], voxels=1)
    little = replace(explained, stages=tuple(replace(stage, peak_bytes=9900) for stage in explained.stages))
    picture = draw([little])
    assert "&lt; 1 MB" in picture
    assert " 0 MB" not in picture

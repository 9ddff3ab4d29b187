"""Pictures of families can be read: nothing is printed over or leaves them, every word is explained."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from object_store.opening import Store, open_store
from planner.names import network_name
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from planner.pictures.families import draw_families
from planner.reports.families import FamilyBuild, FamilyReport, family_report
from planner.reports.family_words import said_gate
from tests.networks import unet

CHANNELS = (16, 32, 64)
SVG = "{http://www.w3.org/2000/svg}"

GATED = FamilyBuild(
    build="b",
    engine="openvino",
    precision="int8",
    alone=True,
    passed=1,
    refused=2,
    preferred=1,
    figures={
        "baseline_seconds": (0.0534, 0.0601),
        "least_dice": (0.9995, 0.9999),
        "mean_dice": (0.9997, 0.9999),
        "seconds": (0.0201, 0.0212),
        "speedup": (2.65, 2.81),
        "volume_change": (0.0001, 0.0005927),
    },
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FamilyReport]:
    """A base of four names, and a variant whose normalisation was folded, not verified yet."""
    folder = tmp_path_factory.mktemp("family")
    with open_store(folder / "store") as store:
        for name, model in (
            ("unet", unet(3, CHANNELS)),
            ("folded", unet(3, CHANNELS, "folded", norm_seed=6)),
        ):
            add(store, folder, name, model)
        base = store.names.get(network_name("unet"))
        assert base is not None
        for name in ("ext-ok", "model", "renamed"):
            store.names.set(network_name(name), base)
        ((found,), _) = family_report(store)
        yield found


def add(store: Store, folder: Path, name: str, model: onnx.ModelProto) -> None:
    onnx.save(model, folder / f"{name}.onnx")
    store.names.set(network_name(name), register(store, open_network(folder / f"{name}.onnx")).network)


def extents(picture: str) -> list[tuple[str, float, float, float]]:
    """(words, left, right, baseline) of every text, as wide as a wide font (DejaVu Sans) prints it."""
    found = []

    def walk(element: ET.Element, down: float) -> None:
        moved = re.match(r"translate\(0,(\d+)\)", element.attrib.get("transform", ""))
        down += float(moved[1]) if moved else 0.0
        if element.tag == f"{SVG}text":
            words = "".join(element.itertext())
            bold = element.attrib["font-weight"] == "bold"
            width = len(words) * float(element.attrib["font-size"]) * (0.6 if bold else 0.545)
            x = float(element.attrib["x"])
            left = {"start": x, "end": x - width, "middle": x - width / 2}[element.attrib["text-anchor"]]
            found.append((words, left, left + width, float(element.attrib["y"]) + down))
        for child in element:
            walk(child, down)

    walk(ET.fromstring(picture), 0.0)
    return found


def texts(picture: str) -> list[str]:
    return [words for words, *_ in extents(picture)]


def crowded(report: FamilyReport) -> FamilyReport:
    """Every member with a long name, large numbers and the longest word for how it runs; many builds."""
    members = [
        replace(member, names=("a-network-with-a-long-name-of-site-north-17",), adds={"private": 123_456_789})
        if not member.is_base
        else member
        for member in report.members
    ]
    return replace(report, members=tuple(members * 9), builds=(GATED, replace(GATED, alone=False)))


def test_no_text_is_printed_over_another_or_leaves_the_picture(report: FamilyReport) -> None:
    several = tuple(replace(report, members=report.members[:1]) for _ in range(3))
    for picture in (
        draw_families([report]),
        draw_families([crowded(report)]),
        draw_families([report, crowded(report)], several),
    ):
        found = extents(picture)
        height = float(ET.fromstring(picture).attrib["height"])
        for words, left, right, y in found:
            assert left >= 0, words
            assert right <= 1240, words
            assert y <= height, words
        for place, (words, left, right, y) in enumerate(found):
            for others, its_left, its_right, its_y in found[place + 1 :]:
                apart = abs(y - its_y) >= 10 or right <= its_left or its_right <= left
                assert apart, f"{words!r} and {others!r}"


def test_a_base_of_several_names_heads_its_family_by_the_first(report: FamilyReport) -> None:
    said = texts(draw_families([report]))
    assert "ext-ok and 3 other names: 2 networks, one structure" in said


def test_sizes_bars_and_open_dimensions_are_explained(report: FamilyReport) -> None:
    said = " | ".join(texts(draw_families([report])))
    assert "then the scale (Mul) and the shift (Add) of each channel" in said
    assert "any size, equal where the name is" in said
    assert "each member's own small tensor, fed with each run" in said


def test_numbers_kept_until_promotion_are_told_apart(report: FamilyReport) -> None:
    (folded,) = [member for member in report.members if not member.is_base]
    assert folded.until_verified
    assert report.until_verified_bytes == sum(folded.until_verified.values()) > folded.adds_bytes
    said = texts(draw_families([report]))
    assert any(re.fullmatch(r"numbers only, without records; plus .+ until verified \(.+\)", s) for s in said)
    settled = replace(report, members=tuple(replace(member, until_verified={}) for member in report.members))
    assert "numbers only, without records" in texts(draw_families([settled]))


def test_networks_without_a_family_take_a_line_each(report: FamilyReport) -> None:
    alone = [
        replace(report, base=f"b{n}", members=(replace(report.members[0], names=(f"single-{n}",)),))
        for n in range(60)
    ]
    picture = draw_families([report], alone)
    without = draw_families([report])
    heights = [float(ET.fromstring(drawn).attrib["height"]) for drawn in (picture, without)]
    assert heights[0] - heights[1] < 800
    said = texts(picture)
    assert "60 networks without a family" in said
    assert "single-0" in said
    assert "and 20 more" in said
    only = texts(draw_families([], alone[:1]))
    assert {"1 network without a family", "single-0"} <= set(only)


def test_what_a_gate_measured_is_said_in_words_and_units() -> None:
    said = said_gate(GATED.figures, lambda seconds: f"{seconds * 1000:.0f} ms")
    assert said == (
        "2.65 to 2.81 times as fast as plain fp32",
        "20 ms to 21 ms a run instead of 53 ms to 60 ms",
        "least Dice 0.9995 to 0.9999",
        "mean 0.9997 to 0.9999",
        "volumes within 0.06%",
    )
    assert said_gate({"other_figure": (1.0, 1.0)}, str) == ("other figure 1",)
    assert said_gate({}, str) == ()

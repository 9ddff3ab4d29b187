"""Families are told and drawn as they are kept."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from object_store.digest import Digest
from object_store.opening import Store, open_store
from planner.errors import UnknownNetwork
from planner.names import network_name
from planner.networks.compared import network_difference
from planner.networks.families.register import register
from planner.networks.reading.opening import open_network
from planner.networks.structure import Opened
from planner.pictures.families import draw_families
from planner.reports.families import FamilyReport, family_report
from tests.networks import low_rank_variant, private_variant, sparse_variant, unet

CHANNELS = (16, 32, 64)
SVG = "{http://www.w3.org/2000/svg}"


def opened(folder: Path, model: onnx.ModelProto) -> Opened:
    path = folder / "network.onnx"
    onnx.save(model, path)
    return open_network(path)


def add(store: Store, name: str, network: Opened) -> str:
    digest = register(store, network).network
    store.names.set(network_name(name), digest)
    return str(digest)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A base and three variants: other normalisation, the same folded, a few other numbers."""
    with open_store(tmp_path / "store") as made:
        base = unet(3, CHANNELS)
        add(made, "base", opened(tmp_path, base))
        add(made, "site", opened(tmp_path, unet(3, CHANNELS, norm_seed=5)))
        add(made, "folded", opened(tmp_path, unet(3, CHANNELS, "folded", norm_seed=6)))
        add(made, "patched", opened(tmp_path, sparse_variant(base, 1)))
        add(made, "adapted", opened(tmp_path, low_rank_variant(unet(3, CHANNELS), 1)))
        yield made


def report_of(store: Store) -> FamilyReport:
    (report,), opaque = family_report(store)
    assert opaque == ()
    return report


def texts(picture: str) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(picture).iter(f"{SVG}text")]


def test_each_member_says_what_it_adds_and_how(store: Store) -> None:
    report = report_of(store)
    by_name = {member.names[0]: member for member in report.members}
    assert report.members[0].is_base
    assert report.members[0].names == ("base",)
    assert by_name["base"].adds == {}
    assert set(by_name["site"].adds) == {"lifted"}
    assert {"scaled", "lifted"} >= set(by_name["folded"].adds) > {"lifted"}
    assert "sparse" in by_name["patched"].adds
    assert "low-rank" in by_name["adapted"].adds
    assert by_name["site"].verified
    assert not by_name["folded"].verified
    assert by_name["folded"].tolerance > 0
    assert report.adds_bytes == sum(tensor.adds_bytes for tensor in report.tensors)


def test_tensors_say_in_how_many_members_they_differ(store: Store) -> None:
    report = report_of(store)
    assert report.bytes == sum(tensor.bytes for tensor in report.tensors)
    filters = [tensor for tensor in report.tensors if tensor.read_by == "Conv" and tensor.bytes > 16 * 1024]
    assert filters
    for tensor in filters:
        assert tensor.differing == {"scaled": 1, "sparse": 1, "low-rank": 1}
    normalisations = [tensor for tensor in report.tensors if tensor.read_by == "Mul"]
    assert max(tensor.differing.get("lifted", 0) for tensor in normalisations) >= 2


def test_layers_hold_every_tensor_and_operator_in_order(store: Store) -> None:
    report = report_of(store)
    assert [name for layer in report.layers for name in layer.tensors] == [t.name for t in report.tensors]
    assert sum(len(layer.operators) for layer in report.layers) == sum(report.operators.values())
    assert {layer.operators[0] for layer in report.layers} == {"Conv", "ConvTranspose"}


def test_a_family_is_found_by_any_members_name_or_digits_and_no_other(store: Store, tmp_path: Path) -> None:
    alien = add(store, "alien", opened(tmp_path, unet(99, (8, 16))))
    both, _ = family_report(store)
    assert [len(report.members) for report in both] == [5, 1]
    for wanted in ("alien", alien, Digest.parse(alien).sha256[:8]):
        (found,), _ = family_report(store, [wanted])
        assert found.base == alien
    with pytest.raises(UnknownNetwork, match="nobody"):
        family_report(store, ["nobody"])


def test_the_picture_names_every_member_and_layer_and_is_well_formed(store: Store) -> None:
    report = report_of(store)
    picture = draw_families([report])
    said = texts(picture)
    assert {"base", "site", "folded", "patched", "adapted"} <= set(said)
    assert sum(re.match(r"Conv(Transpose)? \d", text) is not None for text in said) == len(report.layers)
    assert {"constant", "lifted", "scaled", "low-rank", "sparse"} <= set(said)
    assert "private" not in said
    assert draw_families([report]) == picture


def test_a_tensor_that_a_member_keeps_in_full_is_private(store: Store, tmp_path: Path) -> None:
    add(store, "tuned", opened(tmp_path, private_variant(unet(3, CHANNELS, norm_seed=5), 1)))
    report = report_of(store)
    (private,) = [tensor for tensor in report.tensors if tensor.sharing == "private"]
    assert private.differing["private"] == 1
    (member,) = [member for member in report.members if member.names == ("tuned",)]
    assert member.adds["private"] == private.bytes
    assert set(member.adds) == {"private", "lifted"}
    assert member.verified
    assert report.adds_bytes == sum(tensor.adds_bytes for tensor in report.tensors)
    said = texts(draw_families([report]))
    assert {"tuned", "private"} <= set(said)


def many(report: FamilyReport, count: int) -> FamilyReport:
    member = report.members[1]
    others = [
        replace(member, network=f"sha256:{n:064x}:1", names=(f"site-{n:03d}",), adds={"lifted": 1000 + n})
        for n in range(count)
    ]
    return replace(report, members=(report.members[0], *others))


@pytest.mark.parametrize("count", [25, 250, 3000])
def test_a_family_of_any_size_keeps_the_size_of_its_picture(store: Store, count: int) -> None:
    report = report_of(store)
    picture = draw_families([many(report, count)])
    root = ET.fromstring(picture)
    assert float(root.attrib["width"]) <= 1300
    assert float(root.attrib["height"]) <= 900
    bars = [r for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    assert len(bars) < 700
    assert any(text.startswith(f"{count} members beside the base") for text in texts(picture))


def test_nothing_in_a_picture_leaves_it(store: Store) -> None:
    report = report_of(store)
    for drawn in ([report], [many(report, 250)], [report, many(report, 30)]):
        root = ET.fromstring(draw_families(drawn))
        height = float(root.attrib["height"])
        for rect in root.iter(f"{SVG}rect"):
            if rect.attrib["width"] != "100%":
                right = float(rect.attrib["x"]) + float(rect.attrib["width"])
                assert float(rect.attrib["x"]) >= 0
                assert right <= 1240 + 0.1
                assert float(rect.attrib["y"]) <= height


def test_a_deep_networks_layers_are_joined(store: Store) -> None:
    report = report_of(store)
    deep = replace(report, layers=report.layers * 40)
    said = texts(draw_families([deep]))
    assert any(re.match(r"1 to \d+: ", text) for text in said)
    assert float(ET.fromstring(draw_families([deep])).attrib["height"]) < 1100


def test_odd_names_are_escaped(store: Store) -> None:
    report = report_of(store)
    odd = replace(report, members=(replace(report.members[0], names=("<a> & 'b'",)),))
    assert "<a> & 'b'" in texts(draw_families([odd]))


def test_no_families_are_drawn_as_that() -> None:
    assert "no opened networks" in texts(draw_families([]))


def test_two_networks_of_one_structure_differ_tensor_by_tensor(store: Store, tmp_path: Path) -> None:
    base, patched = (store.names.get(network_name(name)) for name in ("base", "patched"))
    found = network_difference(store, str(base), str(patched))
    assert found.structure == ()
    ours = opened(tmp_path, unet(3, CHANNELS)).tensors
    theirs = opened(tmp_path, sparse_variant(unet(3, CHANNELS), 1)).tensors
    differing = {name: int((ours[name] != theirs[name]).sum()) for name in ours}
    assert {t.name: t.differing for t in found.tensors} == {n: k for n, k in differing.items() if k}
    for tensor in found.tensors:
        one, other = ours[tensor.name].astype(np.float64), theirs[tensor.name].astype(np.float64)
        largest = np.abs(one - other).max() / max(np.abs(one).max(), np.abs(other).max())
        assert tensor.largest == pytest.approx(largest)
    assert network_difference(store, str(base), str(base)).tensors == ()


def test_two_structures_differ_in_what_they_are_made_of(store: Store, tmp_path: Path) -> None:
    base = store.names.get(network_name("base"))
    other = add(store, "3d", opened(tmp_path, unet(3, (8, 16), dims=3, classes=4)))
    found = network_difference(store, str(base), other)
    assert found.tensors == ()
    said = {difference.what: (difference.before, difference.after) for difference in found.structure}
    assert {"inputs", "outputs", "parameters"} <= said.keys()
    assert all(before != after for before, after in said.values())


def test_an_opaque_graph_is_said_to_be_one(store: Store) -> None:
    base = str(store.names.get(network_name("base")))
    graph = str(store.objects.put(b"\x08\x07 no record"))
    assert graph in network_difference(store, base, graph).why

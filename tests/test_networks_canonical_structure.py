"""Canonical form: names and order do not matter, what is computed does, down to single values."""

from pathlib import Path

import onnx
import pytest

from planner.networks.reading.identity import value_ids
from planner.networks.reading.write import model_bytes, to_onnx
from planner.networks.structure import Opened
from tests.canonical_cases import X, meet, opened_as, plain, shuffled, stays_itself
from tests.networks import meshnet, unet
from tests.written_graphs import Net


@pytest.mark.parametrize("seed", range(5))
def test_names_order_and_constants_as_nodes_do_not_matter(seed: int, tmp_path: Path) -> None:
    for model in (unet(3), meshnet(2), unet(1, norm="instance", up="resize")):
        one, other = opened_as(model, tmp_path), opened_as(shuffled(model, seed), tmp_path)
        meet(one, other, 0.0)


def test_swapped_operands_do_not_matter(tmp_path: Path) -> None:
    found = []
    for swap in (False, True):
        net = Net(1)
        branch = plain(net)
        operands = ["x", branch][:: -1 if swap else 1]
        found.append(stays_itself(net.model(net.add("Add", *operands)), tmp_path, X))
    meet(found[0], found[1], 0.0)


def test_operands_that_must_not_be_swapped_are_not(tmp_path: Path) -> None:
    found = []
    for swap in (False, True):
        net = Net(1)
        operands = ["x", plain(net)][:: -1 if swap else 1]
        found.append(stays_itself(net.model(net.add("Sub", *operands)), tmp_path, X))
    assert found[0].structure.to_bytes() != found[1].structure.to_bytes()


@pytest.mark.parametrize(
    "other",
    [
        unet(3, (8, 24)),
        unet(3, classes=4),
        unet(3, up="resize"),
        unet(3, norm="instance"),
        unet(3, dims=3),
        meshnet(3),
    ],
    ids=["channels", "classes", "resize", "instance", "dims", "meshnet"],
)
def test_another_network_has_another_structure(other: onnx.ModelProto, tmp_path: Path) -> None:
    assert (
        opened_as(other, tmp_path).structure.to_bytes() != opened_as(unet(3), tmp_path).structure.to_bytes()
    )


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = (opened_as(unet(3), tmp_path) for _ in range(2))
    assert one.structure.to_bytes() == other.structure.to_bytes()
    assert model_bytes(to_onnx(one.structure, one.tensors)) == model_bytes(
        to_onnx(other.structure, other.tensors)
    )


def test_an_output_that_is_an_input_a_constant_or_another_output_stays_an_output(tmp_path: Path) -> None:
    net = Net(1)
    value = plain(net)
    names = [value, net.add("Identity", value), net.add("Identity", "x"), net.add("Identity", net.weights(3))]
    opened = stays_itself(net.model(*names), tmp_path, X)
    assert [port.name for port in opened.structure.outputs] == ["y0", "y1", "y2", "y3"]


def ids_of(opened: Opened) -> dict[str, str]:
    return value_ids(
        opened.structure, {name: value.tobytes().hex() for name, _, value in opened.typed_tensors()}
    )


def test_networks_over_one_encoder_share_the_identities_of_its_values_and_no_others(tmp_path: Path) -> None:
    one, other = (opened_as(unet(3, decoder_seed=seed), tmp_path) for seed in (1, 2))
    first, second = ids_of(one), ids_of(other)
    assert first.keys() == second.keys()
    equal = [op.type for op in one.structure.ops if first[op.outputs[0]] == second[op.outputs[0]]]
    assert equal == (["Conv", "Mul", "Add", "Relu"] * 2 + ["MaxPool"] + ["Conv", "Mul", "Add", "Relu"] * 2)
    assert first["y0"] != second["y0"]


def test_an_identity_depends_on_attributes_tensors_and_place(tmp_path: Path) -> None:
    outputs = set()
    for seed, dilation, operator in ((1, 1, "Sub"), (2, 1, "Sub"), (1, 2, "Sub"), (1, 1, "Div")):
        net = Net(seed)
        value = net.add("Conv", "x", net.weights(4, 4, 3, 3), dilations=[dilation] * 2, pads=[dilation] * 4)
        outputs.add(ids_of(opened_as(net.model(net.add(operator, value, "x")), tmp_path))["y0"])
        outputs.add(ids_of(opened_as(net.model(net.add(operator, "x", value)), tmp_path))["y0"])
    assert len(outputs) == 8

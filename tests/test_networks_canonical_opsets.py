"""Canonical form: what an operator means in each opset, and padding by name, is written in one way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.canonical_cases import X, meet, opened_as, plain, stays_itself
from tests.networks import image, unet
from tests.written_graphs import Net


@pytest.mark.parametrize("opset", range(11, 27))
def test_every_opset_meets_the_canonical_one(opset: int, tmp_path: Path) -> None:
    model = unet(3, opset=opset)
    reference = opened_as(unet(3), tmp_path)
    meet(reference, stays_itself(model, tmp_path, image(model, 0, size=8)), 0.0)


def test_attributes_that_became_inputs_meet(tmp_path: Path) -> None:
    net, other = Net(), Net()
    feeds = {"x": X["x"]}
    old = net.add("Unsqueeze", net.add("ReduceMean", "x", axes=[2], keepdims=0), axes=[1])
    mean = other.add("ReduceMean", "x", other.constant([2], np.int64), keepdims=0)
    new = other.add("Unsqueeze", mean, other.constant([1], np.int64))
    meet(
        stays_itself(net.model(net.add("Softmax", old, axis=3), opset=11), tmp_path, feeds),
        stays_itself(other.model(other.add("Softmax", new), opset=18), tmp_path, feeds),
    )


def test_a_softmax_over_several_axes_keeps_its_old_opset_and_its_outputs(tmp_path: Path) -> None:
    net = Net(shape=("n", 4, 6, 8))
    opened = stays_itself(net.model(net.add("Softmax", "x", axis=1), opset=11), tmp_path, X)
    assert opened.structure.opset == 11


def test_an_operator_newer_than_the_canonical_opset_keeps_its_own(tmp_path: Path) -> None:
    net = Net(1, shape=("n", 4, 6, 8))
    value = net.add("RMSNormalization", plain(net), net.weights(8))
    opened = stays_itself(net.model(value, opset=23), tmp_path, X)
    assert opened.structure.opset == 23


@pytest.mark.parametrize("way", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "MaxPool"])
def test_padding_by_name_gives_the_same_outputs(
    way: str, kernel: int, stride: int, operator: str, tmp_path: Path
) -> None:
    net = Net(1)
    attributes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "auto_pad": way}
    inputs = ["x"] if operator == "MaxPool" else ["x", net.weights(4, 4, kernel, kernel)]
    stays_itself(net.model(net.add(operator, *inputs, **attributes)), tmp_path, X)

"""Canonical form: sizes that are read off the input, free ones and fixed ones."""

from pathlib import Path

import numpy as np
import pytest

from tests.canonical_cases import X, meet, opened_as, stays_itself
from tests.networks import unet
from tests.written_graphs import Net


def sized_up(net: Net, how: str) -> str:
    """Pooled, then resized to the size of what was pooled, which is read off in one of several ways."""
    before = net.add("Relu", "x")
    pooled = net.add("MaxPool", before, kernel_shape=[2, 2], strides=[2, 2])
    one = net.constant([1], np.int64)
    if how == "slice":
        start, end = net.constant([0], np.int64), net.constant([2], np.int64)
        first = net.add("Slice", net.add("Shape", pooled), start, end)
        far = net.constant([1 << 40], np.int64)
        sizes = net.add("Concat", first, net.add("Slice", net.add("Shape", before), end, far), axis=0)
    elif how == "gather":
        shape = net.add("Shape", before)
        parts = []
        for axis in range(4):
            side = net.add("Gather", shape, net.constant(axis, np.int64), axis=0)
            parts.append(net.add("Unsqueeze", side, net.constant([0], np.int64)))
        sizes = net.add("Concat", *parts, axis=0)
    else:
        sizes = net.add("Mul", net.add("Shape", "x"), one)
    roi, scales = net.constant([]), net.constant([])
    return net.add("Resize", pooled, roi, scales, sizes, mode="nearest")


def test_sizes_read_off_in_several_ways_meet(tmp_path: Path) -> None:
    found = []
    for how in ("slice", "gather", "whole"):
        net = Net()
        found.append(stays_itself(net.model(sized_up(net, how)), tmp_path, X))
    meet(found[0], found[1])
    meet(found[0], found[2])


@pytest.mark.parametrize("size", [(2, 6, 8), (1, 7, 5), (3, 16, 2)])
def test_what_depends_on_a_free_size_follows_it(size: tuple[int, int, int], tmp_path: Path) -> None:
    net = Net()
    model = net.model(sized_up(net, "slice"))
    feeds = {"x": np.random.default_rng(0).normal(size=(size[0], 4, *size[1:])).astype(np.float32)}
    stays_itself(model, tmp_path, feeds)


def test_a_size_that_is_fixed_is_folded_into_a_constant(tmp_path: Path) -> None:
    net = Net(shape=(2, 4, 6, 8))
    opened = stays_itself(net.model(sized_up(net, "gather")), tmp_path, X)
    assert [op.type for op in opened.structure.ops] == ["Relu", "MaxPool", "Resize"]


def test_outputs_say_which_free_sizes_they_share_with_inputs(tmp_path: Path) -> None:
    structure = opened_as(unet(3, dims=3), tmp_path).structure
    assert structure.inputs[0].shape == ("d0", 1, "d1", "d2", "d3")
    assert structure.outputs[0].shape == ("d0", 3, "d1", "d2", "d3")

"""Canonical form: one function written in other words is the same network, and its outputs stay."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.canonical_cases import X, meet, opened_as, plain, stays_itself
from tests.networks import image, unet
from tests.written_graphs import Net, conv


def with_identities(net: Net) -> str:
    weights, bias = net.weights(4, 4, 3, 3), net.weights(4)
    value = conv(net, net.add("Identity", "x"), net.add("Identity", weights), bias)
    return net.add("Identity", net.add("Relu", net.add("Identity", value)))


def with_dropout(net: Net) -> str:
    value = conv(net, "x", net.weights(4, 4, 3, 3), net.weights(4))
    return net.add("Dropout", net.add("Relu", value), net.constant(0.3), outputs=2)


def with_clip(net: Net) -> str:
    value = conv(net, "x", net.weights(4, 4, 3, 3), net.weights(4))
    return net.add("Clip", value, net.constant(0.0), net.constant(np.finfo(np.float32).max))


def with_defaults_written(net: Net) -> str:
    weights, bias = net.weights(4, 4, 3, 3), net.weights(4)
    attributes = {"dilations": [1, 1], "strides": [1, 1], "group": 1, "kernel_shape": [3, 3]}
    return net.add("Relu", conv(net, "x", weights, bias, auto_pad="NOTSET", **attributes))


def with_auto_pad(net: Net) -> str:
    weights, bias = net.weights(4, 4, 3, 3), net.weights(4)
    return net.add("Relu", net.add("Conv", "x", weights, bias, auto_pad="SAME_UPPER"))


def with_unused(net: Net) -> str:
    value = plain(net)
    net.add("Conv", value, net.weights(4, 4, 3, 3))
    net.weights(7, 7)
    return value


def with_neutral_arithmetic(net: Net) -> str:
    value = conv(net, "x", net.weights(4, 4, 3, 3), net.weights(4))
    return net.add("Mul", net.constant(1.0), net.add("Relu", value))


def with_bias_added_after(net: Net) -> str:
    weights, bias = net.weights(4, 4, 3, 3), net.weights(4)
    net.tensors[bias] = net.tensors[bias].reshape(1, 4, 1, 1)
    return net.add("Relu", net.add("Add", bias, conv(net, "x", weights)))


def with_split_bias(net: Net) -> str:
    """A bias twice, a scale and its inverse: arithmetic with constants in a row is one."""
    weights, bias = net.weights(4, 4, 3, 3), net.weights(4)
    half = net.constant(net.tensors[bias].reshape(4, 1, 1) / 2)
    two = net.constant(2.0)
    value = net.add("Sub", conv(net, "x", weights), net.add("Neg", half))
    value = net.add("Div", net.add("Mul", value, two), two)
    return net.add("Relu", net.add("Add", value, half))


def with_constant_arithmetic(net: Net) -> str:
    weights, bias = net.weights(4, 4, 3, 3), net.weights(4)
    net.tensors[weights] = net.tensors[weights].transpose(2, 3, 1, 0).copy()
    turned = net.add("Transpose", weights, perm=[3, 2, 0, 1])
    return net.add("Relu", conv(net, "x", turned, bias))


def channels_last(net: Net) -> str:
    """As converters from frameworks with channels last write it: every operator has its own pair."""
    weights, bias = net.weights(4, 4, 3, 3), net.weights(4)
    last, first = [0, 2, 3, 1], [0, 3, 1, 2]
    value = net.add("Transpose", net.add("Transpose", "x", perm=last), perm=first)
    value = net.add("Transpose", conv(net, value, weights), perm=last)
    value = net.add("Relu", net.add("Add", value, bias))
    return net.add("Transpose", value, perm=first)


SAME_AS_PLAIN = [
    with_identities,
    with_dropout,
    with_clip,
    with_defaults_written,
    with_auto_pad,
    with_unused,
    with_neutral_arithmetic,
    with_bias_added_after,
    with_split_bias,
    with_constant_arithmetic,
    channels_last,
]


@pytest.mark.parametrize("written", SAME_AS_PLAIN, ids=lambda written: str(written.__name__))
def test_one_convolution_written_otherwise_is_the_same_network(
    written: Callable[[Net], str], tmp_path: Path
) -> None:
    net, other = Net(1), Net(1)
    reference = stays_itself(net.model(plain(net)), tmp_path, X)
    meet(reference, stays_itself(other.model(written(other)), tmp_path, X))
    assert [op.type for op in reference.structure.ops] == ["Conv", "Mul", "Add", "Relu"]


def unet_channels_last(seed: int) -> onnx.ModelProto:
    """`unet(seed, up="resize")` with a Transpose before and after every operator on images."""
    model = unet(seed, up="resize")
    nodes = []
    for node in model.graph.node:
        count = {"Conv": 1, "BatchNormalization": 1, "Concat": 2}.get(node.op_type, 1)
        turned = []
        for place, name in enumerate(node.input):
            if place < count and node.op_type != "Relu":
                back = f"{node.output[0]}/first{place}"
                source = name if name == "input" else f"{name}/last"
                perm = [0, 1, 2, 3] if name == "input" else [0, 3, 1, 2]
                nodes.append(helper.make_node("Transpose", [source], [back], perm=perm))
                turned.append(back)
            else:
                turned.append(f"{name}/last" if node.op_type == "Relu" else name)
        name = node.output[0]
        if node.op_type == "Relu":
            nodes.append(helper.make_node("Relu", turned, [f"{name}/last"]))
            continue
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        del kept.input[:]
        kept.input.extend(turned)
        nodes.append(kept)
        if name != "logits":
            nodes.append(helper.make_node("Transpose", [name], [f"{name}/last"], perm=[0, 2, 3, 1]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def test_a_network_with_channels_last_between_its_operators_meets_the_plain_one(tmp_path: Path) -> None:
    model = unet_channels_last(3)
    meet(
        opened_as(unet(3, up="resize"), tmp_path), stays_itself(model, tmp_path, image(model, 0, size=8)), 0.0
    )

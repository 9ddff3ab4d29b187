"""Canonical form: generated graphs keep their outputs, and meet themselves in other words."""

from pathlib import Path

import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from planner.networks.reading.write import model_bytes, to_onnx
from tests.canonical_cases import X, opened_as, shuffled, stays_itself
from tests.written_graphs import Net, conv


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Graphs on float32[n, 4, h, w], of operators that keep the shape, written in many ways."""
    net = Net(draw(st.integers(0, 1000)))
    values = ["x"]
    for _ in range(draw(st.integers(1, 10))):
        value = values[draw(st.integers(max(0, len(values) - 3), len(values) - 1))]
        values.append(_step(net, draw, value, values))
    outputs = [values[-1]]
    if draw(st.booleans()) and len(values) > 2:
        outputs.append(values[-2])
    names = [net.add("Identity", name) for name in outputs]
    model = net.model(*names, opset=draw(st.sampled_from([13, 17, 18, 21, 24])))
    return shuffled_constants(model, draw(st.booleans()))


def shuffled_constants(model: onnx.ModelProto, as_nodes: bool) -> onnx.ModelProto:
    if as_nodes:
        tensors, nodes = list(model.graph.initializer), list(model.graph.node)
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.node.extend(
            [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors]
        )
        model.graph.node.extend(nodes)
    return model


def _step(net: Net, draw: st.DrawFn, value: str, values: list[str]) -> str:
    kind = draw(st.sampled_from(STEPS))
    if kind == "conv":
        bias = [net.weights(4)] if draw(st.booleans()) else []
        return conv(net, value, net.weights(4, 4, 3, 3), *bias)
    if kind == "grouped":
        return conv(net, value, net.weights(4, 2, 3, 3), group=2)
    if kind == "upward":
        return net.add("ConvTranspose", value, net.weights(4, 4, 3, 3), pads=[1, 1, 1, 1])
    if kind == "batch":
        scale, variance = (net.constant(net.numbers.uniform(0.5, 1.5, 4)) for _ in range(2))
        return net.add("BatchNormalization", value, scale, net.weights(4), net.weights(4), variance)
    if kind == "instance":
        # Not near nought: of what a first one made small, a second would amplify the rounding.
        scale = net.constant(net.numbers.uniform(0.5, 1.5, 4) * net.numbers.choice([-1, 1], 4))
        return net.add("InstanceNormalization", value, scale, net.weights(4))
    if kind == "arithmetic":
        shape = draw(st.sampled_from([(), (1,), (4, 1, 1), (1, 4, 1, 1), (8,), (6, 1)]))
        operands = [value, net.constant(net.numbers.uniform(0.5, 1.5, shape))]
        operator = draw(st.sampled_from(["Add", "Mul", "Sub", "Div"]))
        if operator != "Div" and draw(st.booleans()):
            operands.reverse()
        return net.add(operator, *operands)
    if kind == "skip":
        return net.add("Add", value, draw(st.sampled_from(values)))
    if kind == "join":
        joined = net.add("Concat", value, draw(st.sampled_from(values)), axis=1)
        return net.add("Conv", joined, net.weights(4, 8, 1, 1))
    if kind == "turned":
        perm = draw(st.permutations(range(4)))
        turned = net.add("Relu", net.add("Transpose", value, perm=perm))
        return net.add("Transpose", turned, perm=[perm.index(axis) for axis in range(4)])
    if kind == "pool":
        return net.add("MaxPool", value, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    if kind == "reshaped":
        flat = net.add("Flatten", value, axis=2)
        return net.add("Reshape", flat, net.add("Shape", value))
    if kind == "softmax":
        return net.add("Softmax", value, axis=draw(st.sampled_from([1, -1, -3])))
    return net.add(kind, value)


STEPS = [
    "conv", "grouped", "upward", "batch", "instance", "arithmetic", "arithmetic", "skip", "join", "turned",
    "pool", "reshaped", "softmax", "Relu", "Sigmoid", "Identity", "Dropout",
]  # fmt: skip


@given(graphs())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_generated_graphs_keep_their_outputs_and_their_canonical_form(
    tmp_path: Path, model: onnx.ModelProto
) -> None:
    stays_itself(model, tmp_path, X)


@given(graphs(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_generated_graphs_meet_themselves_under_other_names_and_in_another_order(
    tmp_path: Path, model: onnx.ModelProto, seed: int
) -> None:
    one, other = opened_as(model, tmp_path), opened_as(shuffled(model, seed), tmp_path)
    assert model_bytes(to_onnx(one.structure, one.tensors)) == model_bytes(
        to_onnx(other.structure, other.tensors)
    )

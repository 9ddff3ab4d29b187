"""Follow free sizes through operators that keep them, further than onnx's own inference does.

onnx gives up at the first convolution. What is found here makes sizes that one exporter reads off a skip and
another off the input the same, and tells what the outputs' sizes are.
"""

from planner.networks.reading.canonical.graph import Dim, Graph, Node, Type
from planner.networks.reading.canonical.sizes import Sizes, reshaped, sizes_of

KEEP = {
    "Abs", "Cast", "Celu", "Ceil", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "BatchNormalization", "GroupNormalization",
    "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg", "Not", "PRelu", "Reciprocal",
    "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softmax", "Softplus", "Softsign", "Sqrt", "Tanh",
    "ThresholdedRelu",
}  # fmt: skip
"""Their first output has the shape of their first input."""
TOGETHER = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean"}
WINDOWS = {"Conv", "MaxPool", "AveragePool", "LpPool"}


def follow_free_sizes(graph: Graph) -> list[str]:
    """Fill in sizes in `graph.types` that onnx left open. Only what holds for every input that runs.

    Returns: values of which not even the rank was known.
    """
    gained: list[str] = []
    partial: dict[str, Sizes] = {}
    for node in graph.nodes:
        sizes = sizes_of(graph, node, partial) if len(node.outputs) == 1 else None
        if sizes is not None:
            partial[node.outputs[0]] = sizes
        known = graph.type_of(node.outputs[0]) if node.outputs else Type()
        if known.shape is not None and None not in known.shape:
            continue
        if node.type == "Reshape":
            wanted = reshaped(graph, node, partial)
            found = None if wanted is None else tuple(None if size == -1 else size for size in wanted)
        else:
            found = _shape(graph, node, known.shape)
        if found is None or (known.shape is not None and len(found) != len(known.shape)):
            continue
        if known.shape is not None:
            found = tuple(f if k is None else k for k, f in zip(known.shape, found, strict=True))
        if known.shape is None:
            gained.append(node.outputs[0])
        graph.types[node.outputs[0]] = Type(known.dtype or graph.type_of(node.inputs[0]).dtype, found)
    return gained


def _shape(graph: Graph, node: Node, known: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    if not node.inputs:
        return None
    first = graph.type_of(node.inputs[0]).shape
    if node.type in KEEP:
        return first
    if node.type in TOGETHER:
        return _together(graph, node)
    if node.type in WINDOWS and first is not None and len(first) > 2:
        return _window(graph, node, first, known or (None,) * len(first))
    if node.type in ("GlobalAveragePool", "GlobalMaxPool") and first is not None:
        return (*first[:2], *[1] * (len(first) - 2))
    if node.type == "Concat" and known is not None:
        return _joined(graph, node, known)
    return None


def _together(graph: Graph, node: Node) -> tuple[Dim, ...] | None:
    """Sizes that all operands share, or that all others leave alone by being one."""
    shapes = [graph.type_of(name).shape for name in node.inputs]
    if any(shape is None for shape in shapes):
        return None
    rank = max(len(shape) for shape in shapes if shape is not None)
    result: list[Dim] = []
    for axis in range(rank):
        sizes = {shape[axis - rank] for shape in shapes if shape is not None and len(shape) >= rank - axis}
        sizes.discard(1)
        result.append(1 if not sizes else sizes.pop() if len(sizes) == 1 else None)
    return tuple(result)


def _window(
    graph: Graph, node: Node, first: tuple[Dim, ...], known: tuple[Dim, ...]
) -> tuple[Dim, ...] | None:
    """A window of stride one, padded to its reach, keeps the size."""
    kernel = node.attributes.get("kernel_shape")
    if kernel is None and node.type == "Conv":
        weights = graph.type_of(node.inputs[1]).shape
        kernel = list(weights[2:]) if weights is not None else None
    axes = len(first) - 2
    if kernel is None or len(kernel) != axes or len(known) != len(first):
        return None
    strides = node.attributes.get("strides", [1] * axes)
    dilations = node.attributes.get("dilations", [1] * axes)
    pads = node.attributes.get("pads", [0] * 2 * axes)
    way = node.attributes.get("auto_pad", "NOTSET")
    result: list[Dim] = list(known)
    result[0] = first[0] if result[0] is None else result[0]
    if result[1] is None:
        weights = graph.type_of(node.inputs[1]).shape if node.type == "Conv" else None
        result[1] = weights[0] if weights else first[1] if node.type != "Conv" else None
    for axis in range(axes):
        kept = way.startswith("SAME") or (
            way == "NOTSET" and pads[axis] + pads[axis + axes] == (kernel[axis] - 1) * dilations[axis]
        )
        if strides[axis] == 1 and kept:
            result[axis + 2] = first[axis + 2]
    return tuple(result)


def _joined(graph: Graph, node: Node, known: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Parts that are joined along one axis agree in all others, so what is known of one is known of all."""
    shapes = [graph.type_of(name).shape for name in node.inputs]
    joined = node.attributes["axis"] % len(known)
    result: list[Dim] = list(known)
    for axis in range(len(known)):
        if axis == joined or result[axis] is not None:
            continue
        sizes = [shape[axis] for shape in shapes if shape is not None and len(shape) == len(known)]
        told = [size for size in sizes if size is not None]
        result[axis] = min(told, key=str) if told else None
    return tuple(result)

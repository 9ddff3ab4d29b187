"""Which values of a network are computed item by item: axis 0 is the batch, and no item sees another."""

from collections.abc import Callable, Mapping

from planner.networks.structure import Op, Structure


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_POINTWISE = _words(
    "Abs Add And Cast Ceil Celu Clip Cos Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual "
    "HardSigmoid HardSwish Identity LeakyRelu Less LessOrEqual Log Max Min Mish Mod Mul Neg Not Or Pow PRelu "
    "Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu "
    "Where Xor"
)
_FIRST_INPUT = _words(
    "AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalMaxPool "
    "GroupNormalization InstanceNormalization LRN MaxPool SpaceToDepth"
)
"""What they do to their first input, item by item; the others are numbers of the network."""
_ALONG_AXIS = _words("Softmax LogSoftmax Hardmax ArgMax ArgMin Split LayerNormalization")
_REDUCING = _words(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceProd ReduceSumSquare ReduceLogSumExp"
)


def row_wise(structure: Structure, ranks: Mapping[str, int]) -> frozenset[str]:
    """Values whose axis 0 is the batch, each of whose items depends on that item of the inputs only.

    ranks: number of axes of every value. What is not understood is not among them: the answer errs on the
    safe side.
    """
    found = {port.name for port in structure.inputs if port.shape and isinstance(port.shape[0], str)}
    if len(found) < len(structure.inputs) or len({port.shape[0] for port in structure.inputs}) > 1:
        return frozenset()
    plain = set(structure.tensors) | set(structure.constants)
    shapes: set[str] = set()
    for op in structure.ops:
        inputs = [name for name in op.inputs if name]
        if op.type == "Shape" and inputs[0] in found and not op.attributes:
            shapes.update(op.outputs)
        elif op.type == "Reshape" and inputs[0] in found and inputs[1] in shapes:
            found.update(op.outputs)
        elif all(name in plain for name in inputs):
            plain.update(op.outputs)
        elif _keeps_rows(op, found, plain, structure, ranks):
            found.update(name for name in op.outputs if name)
    return frozenset(found)


def items_apart(structure: Structure, ranks: Mapping[str, int]) -> bool:
    """Whether a batch may be run in pieces."""
    rows = row_wise(structure, ranks)
    return all(port.name in rows for port in structure.outputs)


def _keeps_rows(
    op: Op, rows: set[str], plain: set[str], structure: Structure, ranks: Mapping[str, int]
) -> bool:
    inputs = [name for name in op.inputs if name]
    first_only = inputs[0] in rows and all(name in plain for name in inputs[1:])
    if op.domain:
        return False
    if op.type in _POINTWISE:
        known = all(name in ranks for name in (*inputs, *op.outputs))
        return known and all(
            (name in rows and ranks[name] == ranks[op.outputs[0]])
            or (name in plain and _spread_over_rows(name, op, structure, ranks))
            for name in inputs
        )
    if op.type == "Concat":
        axis = op.attributes.get("axis", 0)
        return all(name in rows for name in inputs) and _not_first(axis, inputs[0], ranks)
    if op.type == "MatMul":
        left, right = inputs
        if left in rows and right in plain:
            return ranks.get(right) == 2 and ranks.get(left, 0) >= 2
        # of one or two axes each, it would multiply over the batch
        return left in rows and right in rows and ranks.get(left, 0) == ranks.get(right, 0) >= 3
    if op.type == "Gemm":
        return first_only and not op.attributes.get("transA", 0) and _bias_spreads(op, structure)
    if op.type in ("QuantizeLinear", "DequantizeLinear"):
        single = all(structure_size(name, structure) == 1 for name in inputs[1:])
        return first_only and (single or _not_first(op.attributes.get("axis", 1), inputs[0], ranks))
    if op.type in _ALONG_AXIS:
        default = {"ArgMax": 0, "ArgMin": 0, "Split": 0}.get(op.type, -1)
        return first_only and _not_first(op.attributes.get("axis", default), inputs[0], ranks)
    check = _CHECKS.get(op.type)
    if op.type in _REDUCING:
        check = _reduces_later_axes
    if check is not None:
        return first_only and check(op, structure, ranks)
    return op.type in _FIRST_INPUT and first_only


def structure_size(name: str, structure: Structure) -> int:
    """Elements of a tensor or constant; 0 for anything else."""
    if name in structure.constants:
        return len(structure.constants[name].numbers)
    count = 1 if name in structure.tensors else 0
    for size in structure.tensors[name].shape if count else ():
        count *= size
    return count


def _not_first(axis: int, name: str, ranks: Mapping[str, int]) -> bool:
    return name in ranks and axis % max(ranks[name], 1) != 0


def _spread_over_rows(name: str, op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    """Whether the same numbers are used for every item."""
    if ranks[name] < ranks[op.outputs[0]]:
        return True
    if name in structure.tensors:
        return structure.tensors[name].shape[:1] == (1,)
    return name in structure.constants and structure.constants[name].shape[:1] == (1,)


def _bias_spreads(op: Op, structure: Structure) -> bool:
    if len(op.inputs) < 3 or not op.inputs[2]:
        return True
    name = op.inputs[2]
    typed = structure.tensors.get(name) or structure.constants.get(name)
    return typed is not None and (len(typed.shape) < 2 or typed.shape[0] == 1)


def _numbers(op: Op, place: int, attribute: str, structure: Structure) -> tuple[int, ...] | None:
    """Whole numbers that are a constant input or, in older opsets, an attribute; None if neither."""
    if len(op.inputs) > place and op.inputs[place]:
        constant = structure.constants.get(op.inputs[place])
        return None if constant is None else tuple(int(number) for number in constant.numbers)
    found = op.attributes.get(attribute)
    return None if found is None else tuple(found)


def _reduces_later_axes(op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    axes = _numbers(op, 1, "axes", structure)
    return bool(axes) and all(_not_first(axis, op.inputs[0], ranks) for axis in axes or ())


def _pads_later_axes(op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    pads = _numbers(op, 1, "pads", structure)
    if pads is None or (len(op.inputs) > 3 and op.inputs[3]):
        return False
    return pads[0] == 0 and pads[len(pads) // 2] == 0


def _resizes_later_axes(op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    if op.attributes.get("axes") is not None or (len(op.inputs) > 3 and op.inputs[3]):
        return False
    place = 2 if op.type == "Resize" else 1
    if len(op.inputs) <= place or op.inputs[place] not in structure.constants:
        return False
    return structure.constants[op.inputs[place]].numbers[0] == 1


def _slices_later_axes(op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    axes = _numbers(op, 3, "axes", structure)
    return axes is not None and all(_not_first(axis, op.inputs[0], ranks) for axis in axes)


def _moves_later_axes(op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    order = op.attributes.get("perm")
    return order is not None and order[0] == 0


def _shapes_later_axes(op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    shape = structure.constants.get(op.inputs[1]) if len(op.inputs) > 1 else None
    return shape is not None and shape.numbers[:1] == (0,) and not op.attributes.get("allowzero", 0)


def _flattens_later_axes(op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    return int(op.attributes.get("axis", 1)) == 1


def _inserts_later_axes(op: Op, structure: Structure, ranks: Mapping[str, int]) -> bool:
    axes = _numbers(op, 1, "axes", structure)
    return axes is not None and all(axis > 0 for axis in axes)


_CHECKS: dict[str, Callable[[Op, Structure, Mapping[str, int]], bool]] = {
    "Pad": _pads_later_axes,
    "Resize": _resizes_later_axes,
    "Upsample": _resizes_later_axes,
    "Slice": _slices_later_axes,
    "Transpose": _moves_later_axes,
    "Reshape": _shapes_later_axes,
    "Flatten": _flattens_later_axes,
    "Squeeze": _inserts_later_axes,
    "Unsqueeze": _inserts_later_axes,
}

"""Scales and offsets that are constant go back into the operator they follow, where that costs nothing.

The canonical form writes every convolution as Conv, Mul, Add. What engines fuse by themselves (Conv with a
constant Mul and Add) is left to them: so its filter stays the one that other networks share.
"""

from collections.abc import Collection

import msgspec
import numpy as np

from planner.networks.building.editing import Editing, float64_product, no_wider, other_input, per_channel
from planner.networks.records import LARGE_BYTES
from planner.networks.structure import Op

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_NEUTRAL = {"Mul": 1.0, "Add": 0.0}


def refold_constants(edit: Editing, lifted: Collection[str]) -> None:
    """Within rounding. lifted: tensors that are no constants."""
    _drop_neutral(edit, lifted)
    for op in list(edit.ops):
        if not edit.has(op):
            continue
        if op.type == "InstanceNormalization":
            _refold_normalisation(edit, op, lifted)
        elif op.type in (*_CONVOLUTIONS, "Gemm") and len(op.inputs) == 2:
            _refold_filter(edit, op, lifted)


def _drop_neutral(edit: Editing, lifted: Collection[str]) -> None:
    """Multiplying by one and adding nought change nothing (but the sign of a zero)."""
    for op in edit.ops:
        if op.type not in _NEUTRAL:
            continue
        now = edit.producer(op.outputs[0])  # its inputs may have other names by now
        if now is not None and (neutral := _neutral_in(edit, now, lifted)):
            edit.drop(now, other_input(now, neutral))


def _neutral_in(edit: Editing, op: Op, lifted: Collection[str]) -> str:
    """The input that changes nothing; "" if there is none."""
    neutral = _NEUTRAL.get(op.type)
    name = next((name for name in op.inputs if name in edit.tensors and name not in lifted), "")
    if neutral is None or op.domain or not name or not (edit.tensors[name] == neutral).all():
        return ""
    shape = edit.shapes.get(other_input(op, name))
    return name if shape is not None and no_wider(edit.tensors[name].shape, shape) else ""


def _refold_filter(edit: Editing, op: Op, lifted: Collection[str]) -> None:
    weights = op.inputs[1]
    small = weights in edit.tensors and edit.tensors[weights].nbytes < LARGE_BYTES
    if weights not in edit.tensors or (small and weights in lifted):
        return
    scale = _follower(edit, op, "Mul", lifted)
    if scale is not None and small:
        follower, name = scale
        axis = (
            1 if op.type == "ConvTranspose" or (op.type == "Gemm" and not op.attributes.get("transB")) else 0
        )
        if axis == 0 or op.attributes.get("group", 1) == 1:
            filter_ = edit.tensors[weights]
            shape = [1] * filter_.ndim
            shape[axis] = -1
            folded = edit.new_name()
            edit.tensors[folded] = float64_product(filter_, edit.tensors[name].reshape(shape))
            new = msgspec.structs.replace(op, inputs=(op.inputs[0], folded), outputs=follower.outputs)
            _join(edit, op, follower, new)
            op = new
    offset = _follower(edit, op, "Add", lifted)
    if offset is not None:
        follower, name = offset
        bias = edit.new_name()
        edit.tensors[bias] = np.ascontiguousarray(edit.tensors[name].reshape(-1))
        new = msgspec.structs.replace(op, inputs=(*op.inputs, bias), outputs=follower.outputs)
        _join(edit, op, follower, new)


def _refold_normalisation(edit: Editing, op: Op, lifted: Collection[str]) -> None:
    """InstanceNormalization with ones and noughts, then Mul and Add: with the numbers themselves."""
    source, scale, offset = op.inputs
    numbers = [edit.numbers(scale), edit.numbers(offset)]
    if numbers[0] is None or numbers[1] is None or not ((numbers[0] == 1).all() and (numbers[1] == 0).all()):
        return
    multiplied = _follower(edit, op, "Mul", lifted)
    if multiplied is not None:
        follower, name = multiplied
        scale = edit.new_name()
        edit.tensors[scale] = np.ascontiguousarray(edit.tensors[name].reshape(-1))
        new = msgspec.structs.replace(op, inputs=(source, scale, offset), outputs=follower.outputs)
        _join(edit, op, follower, new)
        op = new
    added = _follower(edit, op, "Add", lifted)
    if added is not None:
        follower, name = added
        offset = edit.new_name()
        edit.tensors[offset] = np.ascontiguousarray(edit.tensors[name].reshape(-1))
        new = msgspec.structs.replace(op, inputs=(source, scale, offset), outputs=follower.outputs)
        _join(edit, op, follower, new)


def _follower(edit: Editing, op: Op, kind: str, lifted: Collection[str]) -> tuple[Op, str] | None:
    """The only reader of an op's result, if it is of this kind with one constant number per channel."""
    (value,) = op.outputs
    readers = edit.readers(value)
    if len(readers) != 1 or readers[0].type != kind or readers[0].domain or value in edit.output_names():
        return None
    name = other_input(readers[0], value)
    shape = edit.shapes.get(value)
    if name in lifted or name not in edit.tensors or shape is None:
        return None
    return (readers[0], name) if per_channel(edit.tensors[name].shape, shape) else None


def _join(edit: Editing, first: Op, second: Op, joined: Op) -> None:
    edit.replace(first, joined)
    edit.remove(second)

"""A structure whose differing tensors are inputs: one compiled stage for all members of a family.

A scale or offset per channel gets a free leading axis: 1, or the size of a batch whose items belong to
different members. So does the filter of a 1x1 convolution, as a matrix. Any other lifted tensor is an input
of its own shape, the same for a whole batch. A large tensor with a low-rank difference is followed by the
difference's two thin factors: filter(x) + left(right(x)).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from planner.networks.building.editing import Editing, editing, other_input
from planner.networks.building.join_lifted import join_lifted
from planner.networks.building.refold import refold_constants
from planner.networks.building.rows import row_wise
from planner.networks.records import Parameter
from planner.networks.structure import Op, Port, Structure

MEMBERS = "members"
"""The free leading size of what every item of a batch may have of its own."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """structure: its inputs are the network's and then the parameters; `tensors` are the numbers left in it,
    those that refolding made included. items_apart: a batch may be run in pieces."""

    structure: Structure
    tensors: Mapping[str, NDArray[Any]]
    parameters: tuple[Parameter, ...]
    items_apart: bool


def lifted_structure(
    structure: Structure,
    tensors: Mapping[str, NDArray[Any]],
    lifted: Collection[str] = (),
    low_rank: Mapping[str, int] | None = None,
    *,
    others: Collection[str] = (),
    across: bool = True,
) -> Lifted:
    """The family's stage. tensors: the base's numbers; lifted, low_rank: see Family.

    others: tensors that stay constant, but of which a member may have its own: they stay under their names,
    and nothing is made of their numbers.
    across: scales and offsets get the leading axis for batches of several members; without, they are where
    onnxruntime takes them cheapest, and such a batch is run in pieces.

    Outputs are those of the structure with a member's numbers, within rounding. Deterministic.
    """
    edit = editing(structure, tensors)
    ranks = {name: len(shape) for name, shape in edit.shapes.items()}
    rows = row_wise(structure, ranks)
    refold_constants(edit, {*lifted, *(low_rank or ()), *others})
    parameters = [] if across else join_lifted(edit, lifted)
    taken = {parameter.of for parameter in parameters}
    for name in structure.tensor_names():
        if name in taken:
            continue
        if name in lifted:
            parameters.append(_lift(edit, name, rows))
        elif low_rank and name in low_rank:
            parameters.extend(_add_low_rank(edit, name, low_rank[name]))
    return Lifted(
        edit.structure(),
        {name: array for name, array in edit.tensors.items() if edit.readers(name)},
        tuple(parameters),
        all(port.name in rows for port in structure.outputs),
    )


def takes_low_rank(structure: Structure, name: str) -> bool:
    """Whether the difference of this large tensor can be applied while it runs."""
    uses = structure.consumers().get(name, ())
    return bool(uses) and all(_factorable(op, name) for op in uses)


def _lift(edit: Editing, name: str, rows: Collection[str]) -> Parameter:
    uses = edit.readers(name)
    type_ = edit.original.tensors[name]
    edit.tensors.pop(name, None)
    if uses and all(_scales_channels(edit, op, name, rows) for op in uses):
        axes = len(edit.shapes[other_input(uses[0], name)])
        shape = (1, *[1] * (axes - 1 - len(type_.shape)), *type_.shape)
        return _parameter(edit, name, type_.dtype, shape, per_sample=True)
    if uses and all(_is_pointwise_convolution(edit, op, name, rows) for op in uses):
        for op in uses:
            edit.replace(op, *_as_matrix_product(edit, op, name))
        return _parameter(edit, name, type_.dtype, (1, *type_.shape[:2]), per_sample=True)
    return _parameter(edit, name, type_.dtype, type_.shape, per_sample=False)


def _parameter(
    edit: Editing,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    *,
    per_sample: bool,
    of: str = "",
    part: str = "",
) -> Parameter:
    free: tuple[int | str, ...] = (MEMBERS, *shape[1:]) if per_sample else shape
    edit.inputs.append(Port(name, dtype, free))
    return Parameter(name=name, dtype=dtype, shape=shape, of=of or name, part=part, per_sample=per_sample)


def _scales_channels(edit: Editing, op: Op, name: str, rows: Collection[str]) -> bool:
    """Whether it multiplies, or is added to, a value that has items, every item with the same numbers."""
    if op.type not in ("Mul", "Add") or op.domain or op.inputs[0] == op.inputs[1]:
        return False
    value = other_input(op, name)
    axes = {len(edit.shapes.get(other_input(use, name), ())) for use in edit.readers(name)}
    return value in rows and len(axes) == 1 and axes.pop() > len(edit.original.tensors[name].shape)


def _is_pointwise_convolution(edit: Editing, op: Op, name: str, rows: Collection[str]) -> bool:
    shape = edit.original.tensors[name].shape
    if (
        op.type != "Conv"
        or op.domain
        or len(op.inputs) != 2
        or op.inputs[1] != name
        or op.inputs[0] not in rows
    ):
        return False
    plain = all(side == 1 for side in op.attributes.get("strides", ())) and not any(
        op.attributes.get("pads", ())
    )
    padded = op.attributes.get("auto_pad", "NOTSET")
    return (
        plain
        and padded in ("NOTSET", "VALID")
        and op.attributes.get("group", 1) == 1
        and all(side == 1 for side in shape[2:])
    )


def _as_matrix_product(edit: Editing, op: Op, name: str) -> tuple[Op, ...]:
    """Conv 1x1 as [members, out, in] @ [n, in, places], which takes one filter per item."""
    source, (result,) = op.inputs[0], op.outputs
    channels = edit.original.tensors[name].shape[0]
    flat, product, shape, sides, whole = (edit.new_name() for _ in range(5))
    to_flat = edit.constant(np.array([0, 0, -1], np.int64))
    start = edit.constant(np.array([2], np.int64))
    end = edit.constant(np.array([2**31 - 1], np.int64))
    head = edit.constant(np.array([0, channels], np.int64))
    return (
        Op("Reshape", (source, to_flat), (flat,)),
        Op("MatMul", (name, flat), (product,)),
        Op("Shape", (source,), (shape,)),
        Op("Slice", (shape, start, end), (sides,)),
        Op("Concat", (head, sides), (whole,), {"axis": 0}),
        Op("Reshape", (product, whole), (result,)),
    )


def _factorable(op: Op, name: str) -> bool:
    if op.domain or len(op.inputs) < 2 or op.inputs[1] != name or op.inputs[0] == name:
        return False
    if op.type in ("Conv", "ConvTranspose"):
        return bool(op.attributes.get("group", 1) == 1)
    plain = op.attributes.get("alpha", 1.0) == 1.0 and not op.attributes.get("transA", 0)
    return op.type == "MatMul" or (op.type == "Gemm" and plain)


def _add_low_rank(edit: Editing, name: str, rank: int) -> tuple[Parameter, Parameter]:
    """Two parameters, `NAME.left` and `NAME.right`, in the shapes that the ops want them."""
    shape = edit.original.tensors[name].shape
    dtype = edit.original.tensors[name].dtype
    rows, rest = shape[0], prod(shape[1:])
    left, right = f"{name}.left", f"{name}.right"
    for op in edit.readers(name):
        _follow_with_factors(edit, op, name, left, right, rank)
    kinds = {op.type for op in edit.readers(name)}
    turned = "left.T" if kinds <= {"ConvTranspose"} else "left"
    if kinds <= {"Conv"}:
        shapes = (rows, rank, *[1] * (len(shape) - 2)), (rank, *shape[1:])
    elif kinds <= {"ConvTranspose"}:
        shapes = (rank, rows, *[1] * (len(shape) - 2)), (rank, *shape[1:])
    else:
        shapes = (rows, rank), (rank, rest)
    return (
        _parameter(edit, left, dtype, shapes[0], per_sample=False, of=name, part=turned),
        _parameter(edit, right, dtype, shapes[1], per_sample=False, of=name, part="right"),
    )


def _follow_with_factors(edit: Editing, op: Op, name: str, left: str, right: str, rank: int) -> None:
    source, (result,) = op.inputs[0], op.outputs
    main, thin, wide = edit.new_name(), edit.new_name(), edit.new_name()
    ones = [1] * (len(edit.original.tensors[name].shape) - 2)
    bias = op.inputs[2:]
    plain = msgspec.structs.replace(op, outputs=(main,))
    bare = {key: value for key, value in op.attributes.items() if key != "beta"}
    if op.type == "Conv":
        first = Op("Conv", (source, right), (thin,), op.attributes)
        second = Op("Conv", (thin, left), (wide,), {"kernel_shape": ones})
    elif op.type == "ConvTranspose":
        first = Op("Conv", (source, left), (thin,), {"kernel_shape": ones})
        second = Op("ConvTranspose", (thin, right), (wide,), op.attributes)
    elif op.type == "Gemm" and op.attributes.get("transB", 0):  # x @ (left @ right).T
        first = Op("Gemm", (source, right), (thin,), bare)
        second = Op("Gemm", (thin, left), (wide,), bare)
    else:
        first = Op("MatMul", (source, left), (thin,))
        second = Op("MatMul", (thin, right), (wide,))
    assert len(bias) <= 1
    edit.replace(op, plain, first, second, Op("Add", (main, wide), (result,)))

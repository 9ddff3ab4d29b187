"""The operators that compute constants in numpy, with the size of the result known beforehand.

Only what gives the same bytes on every processor: moves, integers, comparisons, and arithmetic that IEEE 754
rounds correctly (+ - * / and square roots). The last place of what numpy gives for Exp, Pow and their like
depends on the processor's vector instructions, which a network's digest must not; they stay operators.
Sums of several numbers are taken in order and in float64.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.networks.reading.canonical.graph import Node, integers

Array: TypeAlias = NDArray[Any]
Given: TypeAlias = Sequence[Array | None]


class TooLarge(Exception):
    """The result would have this many bytes."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(f"{nbytes} bytes")
        self.nbytes = nbytes


def evaluate(node: Node, given: Given, most_bytes: int) -> tuple[Array, int] | None:
    """The first output of an operator with these inputs (None: absent), or None if it is not one of ours.

    With it comes how many bytes that takes at most, beyond those of the inputs.
    Raises: TooLarge, before anything of more than `most_bytes` is made; ValueError and the like where the
    operator does not take its inputs.
    """
    function = FUNCTIONS.get(node.type)
    if function is None:
        return None
    size = SIZES.get(node.type, _broadcast_size)
    nbytes = size(node, given)
    if nbytes > most_bytes:
        raise TooLarge(nbytes)
    with np.errstate(all="ignore"):
        return np.asarray(function(node, given)), nbytes


def _in_c_order(array: Array) -> Array:
    """Unlike np.ascontiguousarray, this leaves an array without axes one without axes."""
    return np.asarray(array, order="C")


def _of(given: Given, place: int) -> Array:
    array = given[place] if place < len(given) else None
    if array is None:
        raise ValueError("an input is missing")
    return array


def _broadcast_size(node: Node, given: Given) -> int:
    present = [array for array in given if array is not None]
    count = 1
    for size in np.broadcast_shapes(*(array.shape for array in present)):
        count *= size
    return count * 8


def _same_size(node: Node, given: Given) -> int:
    return sum(array.nbytes for array in given if array is not None) * 2


def _joined_size(node: Node, given: Given) -> int:
    return sum(array.nbytes for array in given if array is not None)


def _no_size(node: Node, given: Given) -> int:
    """Of operators that give the array as it lies."""
    return 0


def _cast_size(node: Node, given: Given) -> int:
    return int(_of(given, 0).size) * np.dtype(DTYPES[node.attributes["to"]]).itemsize


def _expanded_size(node: Node, given: Given) -> int:
    data, count = _of(given, 0), 1
    for side in np.broadcast_shapes(data.shape, tuple(integers(_of(given, 1)))):
        count *= side
    return count * data.itemsize


def _shape_size(place: int) -> Callable[[Node, Given], int]:
    """Of operators that make an array of the shape in this input."""

    def size(node: Node, given: Given) -> int:
        count = 1
        for side in integers(_of(given, place)):
            if side < 0:
                raise ValueError("a negative size")
            count *= max(side, 1)
        return count * 8 * (1 if place == 0 else max(1, _of(given, 0).size))

    return size


def _gather_size(node: Node, given: Given) -> int:
    data, indices = _of(given, 0), _of(given, 1)
    axis = node.attributes.get("axis", 0)
    return int(indices.size) * max(1, data.nbytes // max(1, int(data.shape[axis])))


def _range_size(node: Node, given: Given) -> int:
    start, stop, step = (float(_of(given, place)) for place in range(3))
    return int(abs(stop - start) / abs(step) + 1) * 8 if step else 0


def _elementwise(function: Callable[..., Any]) -> Callable[[Node, Given], Array]:
    """In the type of the operands, as ONNX has it."""

    def run(node: Node, given: Given) -> Array:
        operands = [_of(given, place) for place in range(len(given))]
        return np.asarray(function(*operands), operands[0].dtype)

    return run


def _truth(function: Callable[..., Any]) -> Callable[[Node, Given], Array]:
    return lambda node, given: np.asarray(function(*[_of(given, n) for n in range(len(given))]), np.bool_)


def _divide(a: Array, b: Array) -> Array:
    """Integers towards nought."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    if not np.all(b):
        raise ValueError("division by nought")
    quotient = np.abs(a) // np.abs(b)
    return np.asarray(np.sign(a) * np.sign(b) * quotient)


def _reshape(node: Node, given: Given) -> Array:
    data, sizes = _of(given, 0), integers(_of(given, 1))
    if not node.attributes.get("allowzero", 0):
        sizes = [data.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return data.reshape(sizes)


def _transpose(node: Node, given: Given) -> Array:
    return _in_c_order(_of(given, 0).transpose(node.attributes.get("perm")))


def _axes_of(node: Node, given: Given, place: int = 1) -> tuple[int, ...] | None:
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"])
    array = given[place] if place < len(given) else None
    return None if array is None else tuple(integers(array))


def _power(base: Array, exponent: Array) -> Array:
    """Where it is a matter of one correctly rounded step."""
    if base.dtype.kind != "f":
        if exponent.dtype.kind == "f" or (exponent < 0).any():
            raise ValueError("a power that is no whole number")
        return np.asarray(np.power(base, exponent))
    steps = {1.0: np.positive, 2.0: np.square, -1.0: np.reciprocal, 0.5: np.sqrt}
    (first,) = np.unique(exponent) if exponent.size else (np.nan,)  # ValueError where there are several
    if float(first) not in steps or (first == 0.5 and not (base > 0).all()):
        raise ValueError("a power that processors round each in their way")
    shape = np.broadcast_shapes(base.shape, exponent.shape)
    return np.asarray(np.broadcast_to(steps[float(first)](base), shape))


def _positive_nought(function: Callable[..., Any]) -> Callable[..., Any]:
    """Which of two noughts is the larger one is up to the processor, so it is always +0."""
    return lambda *operands, **way: function(*operands, **way) + operands[0].dtype.type(0)


def _squeeze(node: Node, given: Given) -> Array:
    axes = _axes_of(node, given)
    if axes == ():
        raise ValueError("axes are there, but none")
    return np.squeeze(_of(given, 0), axes)


def _unsqueeze(node: Node, given: Given) -> Array:
    axes = _axes_of(node, given)
    if axes is None:
        raise ValueError("axes are missing")
    return np.expand_dims(_of(given, 0), axes)


def _slice(node: Node, given: Given) -> Array:
    data, starts, ends = _of(given, 0), integers(_of(given, 1)), integers(_of(given, 2))
    axes = integers(_of(given, 3)) if len(given) > 3 and given[3] is not None else list(range(len(starts)))
    steps = integers(_of(given, 4)) if len(given) > 4 and given[4] is not None else [1] * len(starts)
    taken = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        side = data.shape[axis]
        stop: int | None = end
        if step < 0 and end < -side:
            stop = None
        taken[axis] = slice(start, stop, step)
    return _in_c_order(data[tuple(taken)])


def _concat(node: Node, given: Given) -> Array:
    return np.concatenate([_of(given, place) for place in range(len(given))], node.attributes["axis"])


def _gather(node: Node, given: Given) -> Array:
    data, indices, axis = _of(given, 0), _of(given, 1), node.attributes.get("axis", 0)
    side = data.shape[axis]
    if indices.size and not (-side <= indices.min() and indices.max() < side):
        raise ValueError("an index outside the array")
    return np.take(data, indices, axis)


DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""By onnx.TensorProto's numbers."""


def _cast(node: Node, given: Given) -> Array:
    data, target = _of(given, 0), np.dtype(DTYPES[node.attributes["to"]])
    if data.dtype.kind == "f" and target.kind in "iu":
        limits = np.iinfo(target)
        if not (
            np.isfinite(data).all() and (data >= limits.min).all() and (data <= float(limits.max) / 2).all()
        ):
            raise ValueError("a number outside the target type")
    return data.astype(target)


def _constant_of_shape(node: Node, given: Given) -> Array:
    value = node.attributes.get("value", {"dtype": "float32", "numbers": [0.0]})
    return np.full(integers(_of(given, 0)), value["numbers"][0], value["dtype"])


def _expand(node: Node, given: Given) -> Array:
    data, sizes = _of(given, 0), integers(_of(given, 1))
    return _in_c_order(np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(sizes))))


def _tile(node: Node, given: Given) -> Array:
    return np.tile(_of(given, 0), integers(_of(given, 1)))


def _range(node: Node, given: Given) -> Array:
    start, stop, step = (_of(given, place).reshape(()).item() for place in range(3))
    return np.asarray(np.arange(start, stop, step), _of(given, 0).dtype)


def _in_order(function: np.ufunc) -> Callable[..., Array]:
    """A sum or product of float64 (integers: int64), one number after the other."""

    def reduce(data: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
        axes = range(data.ndim) if axis is None else [place % data.ndim for place in axis]
        kept = [place for place in range(data.ndim) if place not in axes]
        sides = [data.shape[place] for place in kept]
        wide = data.astype(np.float64 if data.dtype.kind == "f" else np.int64)
        rows = wide.transpose(*axes, *kept).reshape(-1, *sides)
        total = function.accumulate(rows, axis=0)[-1] if len(rows) else np.full(sides, function.identity)
        return np.asarray(np.expand_dims(total, tuple(axes)) if keepdims else total)

    return reduce


def _reduce(function: Callable[..., Any]) -> Callable[[Node, Given], Array]:
    """Over all axes where none is given, be they absent or empty."""

    def run(node: Node, given: Given) -> Array:
        data, axes = _of(given, 0), _axes_of(node, given) or None
        if axes is None and node.attributes.get("noop_with_empty_axes", 0):
            raise ValueError("what this does to each number is another matter for each operator")
        return np.asarray(
            function(data, axis=axes, keepdims=bool(node.attributes.get("keepdims", 1))), data.dtype
        )

    return run


FUNCTIONS: dict[str, Callable[[Node, Given], Any]] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _truth(np.logical_and),
    "Cast": _cast,
    "Ceil": _elementwise(np.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divide),
    "Equal": _truth(np.equal),
    "Expand": _expand,
    "Floor": _elementwise(np.floor),
    "Gather": _gather,
    "Greater": _truth(np.greater),
    "Identity": lambda node, given: _of(given, 0),
    "Less": _truth(np.less),
    "Max": _elementwise(_positive_nought(lambda *all_: np.maximum.reduce(np.broadcast_arrays(*all_)))),
    "Min": _elementwise(_positive_nought(lambda *all_: np.minimum.reduce(np.broadcast_arrays(*all_)))),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _truth(np.logical_not),
    "Or": _truth(np.logical_or),
    "Pow": _elementwise(_power),
    "Range": _range,
    "Reciprocal": _elementwise(np.reciprocal),
    "ReduceL2": _reduce(
        lambda data, **way: np.sqrt(_in_order(np.add)(np.square(data, dtype=np.float64), **way))
    ),
    "ReduceMax": _reduce(_positive_nought(np.max)),
    "ReduceMin": _reduce(_positive_nought(np.min)),
    "ReduceProd": _reduce(_in_order(np.multiply)),
    "ReduceSum": _reduce(_in_order(np.add)),
    "Reshape": _reshape,
    "Slice": _slice,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda node, given: np.where(_of(given, 0), _of(given, 1), _of(given, 2)),
}
SIZES: dict[str, Callable[[Node, Given], int]] = {
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"), _same_size),
    **dict.fromkeys(("Concat", "Slice", "Transpose"), _joined_size),
    **dict.fromkeys(("Identity", "Reshape", "Squeeze", "Unsqueeze"), _no_size),
    "Cast": _cast_size,
    "ConstantOfShape": _shape_size(0),
    "Expand": _expanded_size,
    "Tile": _shape_size(1),
    "Gather": _gather_size,
    "Range": _range_size,
}

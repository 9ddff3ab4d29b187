"""Normalisation and bias as one scale and one offset after the operator that computes.

Conv, ConvTranspose, and Gemm or MatMul with constant weights become the bare operator, then Mul by s, then
Add of b, whatever mixture of bias, BatchNormalization and arithmetic with constants followed: so a network
exported with normalisation and the same network with it folded in have one structure. InstanceNormalization,
GroupNormalization and LayerNormalization give up scale and bias likewise. Elsewhere a chain of arithmetic
with constants becomes at most one Mul and one Add. Computed in float64 and rounded once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.networks.reading.canonical.graph import Graph, Node, trimmed

Numbers = NDArray[np.float64]
CONVOLUTIONS = {"Conv", "ConvTranspose"}
NORMALISATIONS = {"InstanceNormalization", "GroupNormalization", "LayerNormalization"}
ARITHMETIC = {"Mul", "Add", "Sub", "Div", "BatchNormalization"}


ROUNDING_FROM = 1024.0
"""A guess, in the units of the value: float32 numbers as large as this are apart by more than 1e-4."""
CANCELLED = 2.0**-7


def _sum(one: Numbers, other: Numbers) -> Numbers:
    """The offset of both.

    Raises: ValueError where large ones cancel: adding 12582912 and taking it away again rounds to whole
    numbers, and an author may well have meant it.
    """
    result = one + other
    largest = np.maximum(np.abs(one), np.abs(other))
    if ((largest >= ROUNDING_FROM) & (np.abs(result) < CANCELLED * largest)).any():
        raise ValueError("offsets that cancel")
    return np.asarray(result)


@dataclass(slots=True)
class _Affine:
    """x * scale + offset; None: not even a one or a nought was there."""

    scale: Numbers | None = None
    offset: Numbers | None = None

    def then(self, scale: Numbers | None, offset: Numbers | None) -> "_Affine":
        """Raises: ValueError, for shapes that do not go together and offsets that round on purpose."""
        result = _Affine(self.scale, self.offset)
        if scale is not None:
            result.scale = scale if result.scale is None else result.scale * scale
            result.offset = None if result.offset is None else result.offset * scale
        if offset is not None:
            result.offset = offset if result.offset is None else _sum(result.offset, offset)
        return result

    def fits(self, dtype: np.dtype[Any]) -> bool:
        """Nothing is lost to infinity in rounding."""
        with np.errstate(over="ignore"):
            return all(
                bool(np.isfinite(numbers.astype(dtype)).all())
                for numbers in (self.scale, self.offset)
                if numbers is not None
            )


@dataclass(slots=True)
class _Head:
    """Where a chain begins.

    source: the value that is scaled; value: what is computed so far, and followed further.
    shape: of one number per channel, against the value's last axes; None: any.
    """

    source: str
    value: str
    dtype: np.dtype[Any]
    rank: int | None
    shape: tuple[int, ...] | None
    affine: _Affine


def gather_affine(graph: Graph) -> None:
    """Rewrite every chain of the graph. Within rounding of the last place of each number."""
    _Pass(graph).run()


class _Pass:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._consumers = graph.consumers()
        self._out = set(graph.names_out)
        self._done: list[Node] = []
        self._gone: set[int] = set()
        self._neutrals: dict[tuple[str, tuple[int, ...], bool], str] = {}
        self._grouped = {node.outputs[0] for node in graph.nodes if node.type == "Reshape"}
        """Where InstanceNormalization stands for the group normalisation it is a part of: scale and offset
        come after the groups are channels again."""

    def run(self) -> None:
        for node in self._graph.nodes:
            if id(node) in self._gone:
                continue
            if node.type in ARITHMETIC and self._chain(node):
                continue
            head = self._head(node)
            if head is None:
                self._done.append(node)
            else:
                self._finish(head, both=True)
        self._graph.nodes = self._done
        self._graph.drop_unused()

    def _chain(self, node: Node) -> bool:
        """Arithmetic that follows nothing it could belong to. False: it is not such arithmetic."""
        source = next((name for name in node.inputs if name not in self._graph.constants), "")
        kind = self._graph.type_of(source)
        if kind.dtype not in ("float32", "float16", "float64") or kind.shape is None:
            return False
        head = _Head(source, source, np.dtype(kind.dtype), len(kind.shape), None, _Affine())
        affine = self._step(head, node, source, _Affine())
        if affine is None:
            return False
        head.value, head.affine = node.outputs[0], affine
        self._finish(head, both=False)
        return True

    def _head(self, node: Node) -> _Head | None:
        """The node made bare, and what its own bias or scale amount to. None: nothing to take out."""
        constants = self._graph.constants
        if node.type in CONVOLUTIONS:
            weights = constants.get(node.inputs[1])
            bias = node.inputs[2] if len(node.inputs) > 2 else ""
            if weights is None or (bias and bias not in constants) or weights.dtype.kind != "f":
                return None
            groups = node.attributes.get("group", 1)
            channels = weights.shape[0] if node.type == "Conv" else weights.shape[1] * groups
            shape = (channels, *[1] * (weights.ndim - 2))
            offset = constants[bias].astype(np.float64).reshape(shape) if bias else None
            bare = Node(node.type, node.inputs[:2], [self._graph.new_name()], node.attributes)
            return self._begin(bare, node, weights.dtype, weights.ndim, shape, _Affine(None, offset))
        if node.type in NORMALISATIONS:
            return self._normalisation(node)
        if node.type == "Gemm":
            return self._gemm(node)
        if node.type == "MatMul":
            weights = constants.get(node.inputs[1])
            if (
                weights is None
                or weights.ndim != 2
                or weights.dtype.kind != "f"
                or node.inputs[0] in constants
            ):
                return None
            bare = Node("MatMul", node.inputs, [self._graph.new_name()])
            rank = self._graph.rank_of(node.inputs[0])
            return self._begin(bare, node, weights.dtype, rank, weights.shape[1:], _Affine())
        return None

    def _begin(
        self,
        bare: Node,
        node: Node,
        dtype: np.dtype[Any],
        rank: int | None,
        shape: tuple[int, ...],
        affine: _Affine,
    ) -> _Head | None:
        if not affine.fits(dtype):
            return None
        self._done.append(bare)
        self._graph.types[bare.outputs[0]] = self._graph.type_of(node.outputs[0])
        return _Head(bare.outputs[0], node.outputs[0], dtype, rank, shape, affine)

    def _normalisation(self, node: Node) -> _Head | None:
        constants = self._graph.constants
        given = [constants.get(name) for name in trimmed(node.inputs)[1:]]
        if any(array is None or array.dtype.kind != "f" for array in given) or len(trimmed(node.outputs)) > 1:
            return None
        rank = self._graph.rank_of(node.inputs[0])
        if rank is None:
            return None
        scale, bias = constants[node.inputs[1]], given[1] if len(given) > 1 else None
        if node.inputs[0] in self._grouped and bias is not None and not bias.any() and (scale == 1).all():
            return None
        layer = node.type == "LayerNormalization"
        shape = scale.shape if layer else (scale.size, *[1] * (rank - 2))
        affine = _Affine(scale.astype(np.float64).reshape(shape))
        if bias is not None:
            affine.offset = bias.astype(np.float64).reshape(shape)
        neutral = [self._neutral(np.ones(scale.shape, scale.dtype))]
        if not layer:
            neutral.append(self._neutral(np.zeros(scale.shape, scale.dtype)))
        bare = Node(node.type, [node.inputs[0], *neutral], [self._graph.new_name()], node.attributes)
        return self._begin(bare, node, scale.dtype, rank, shape, affine)

    def _neutral(self, numbers: NDArray[Any]) -> str:
        """One name for equal arrays, so that bare normalisations of one value are seen to be equal."""
        key = (numbers.dtype.str, numbers.shape, bool(numbers.any()))
        if key not in self._neutrals:
            self._neutrals[key] = self._graph.add_constant(numbers)
        return self._neutrals[key]

    def _gemm(self, node: Node) -> _Head | None:
        constants, attributes = self._graph.constants, node.attributes
        weights = constants.get(node.inputs[1])
        bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
        if weights is None or weights.dtype.kind != "f" or node.inputs[0] in constants:
            return None
        if bias_name and bias_name not in constants:
            return None
        columns = weights.shape[0 if attributes.get("transB", 0) else 1]
        affine = _Affine()
        if attributes.get("alpha", 1.0) != 1.0:
            affine = affine.then(np.full((columns,), attributes["alpha"], np.float64), None)
        if bias_name:
            bias = constants[bias_name]
            if bias.size not in (1, columns) or (bias.ndim == 2 and bias.shape[0] != 1):
                return None
            numbers = bias.astype(np.float64).reshape(-1) * attributes.get("beta", 1.0)
            affine = affine.then(None, np.broadcast_to(numbers, (columns,)))
        if not affine.fits(weights.dtype):
            return None
        left, right = node.inputs[:2]
        if attributes.get("transB", 0):
            right = self._graph.add_constant(np.ascontiguousarray(weights.T))
        if attributes.get("transA", 0):
            turned = self._graph.new_name()
            self._done.append(Node("Transpose", [left], [turned], {"perm": [1, 0]}))
            left = turned
        bare = Node("MatMul", [left, right], [self._graph.new_name()])
        return self._begin(bare, node, weights.dtype, 2, (columns,), affine)

    def _finish(self, head: _Head, *, both: bool) -> None:
        """Take in what follows, then write Mul and Add (both, or those that were there)."""
        value, affine = head.value, head.affine
        while value not in self._out and len(self._consumers.get(value, ())) == 1:
            follower = self._consumers[value][0]
            extended = self._step(head, follower, value, affine)
            if extended is None:
                break
            self._gone.add(id(follower))
            value, affine = follower.outputs[0], extended
        scale, offset = affine.scale, affine.offset
        if both and head.shape is not None:
            scale = np.ones(head.shape) if scale is None else np.broadcast_to(scale, head.shape)
            offset = np.zeros(head.shape) if offset is None else np.broadcast_to(offset, head.shape)
        source = head.source
        for operator, numbers, last in (("Mul", scale, offset is None), ("Add", offset, True)):
            if numbers is None:
                continue
            rounded = np.array(_without_leading_ones(numbers, head.shape), head.dtype, order="C")
            result = value if last else self._graph.new_name()
            self._done.append(Node(operator, [source, self._graph.add_constant(rounded)], [result]))
            self._graph.types[result] = self._graph.type_of(value)
            source = result

    def _step(self, head: _Head, node: Node, value: str, affine: _Affine) -> _Affine | None:
        """`affine` and then this node, if the node is arithmetic with constants of fitting shape."""
        if node.type not in ARITHMETIC or not node.inputs or len(trimmed(node.outputs)) != 1:
            return None
        if node.type == "BatchNormalization":
            step: tuple[Numbers | None, Numbers | None] | None = self._batch_normalisation(head, node)
        else:
            step = self._arithmetic(head, node, value)
        if step is None:
            return None
        with np.errstate(all="ignore"):
            try:
                extended = affine.then(*step)
            except ValueError:  # wrong shapes are for whoever runs the network to refuse
                return None
            parts = [part.size for part in (affine.scale, affine.offset, *step) if part is not None]
            grown = any(
                part is not None and part.size > max(parts) for part in (extended.scale, extended.offset)
            )
            return extended if not grown and extended.fits(head.dtype) else None

    def _arithmetic(
        self, head: _Head, node: Node, value: str
    ) -> tuple[Numbers | None, Numbers | None] | None:
        first = node.inputs[0] == value
        other = node.inputs[1] if first else node.inputs[0]
        if other not in self._graph.constants or other == value:
            return None
        constant = self._graph.constants[other]
        if constant.dtype != head.dtype or (not first and node.type == "Div"):
            return None
        numbers = self._fitting(head, constant.astype(np.float64))
        if numbers is None:
            return None
        with np.errstate(all="ignore"):
            if node.type == "Mul":
                return numbers, None
            if node.type == "Div":
                return 1 / numbers, None
            if node.type == "Add":
                return None, numbers
            return (None, -numbers) if first else (np.array(-1.0), numbers)

    def _batch_normalisation(self, head: _Head, node: Node) -> tuple[Numbers, Numbers] | None:
        tensors = [self._graph.constants.get(name) for name in node.inputs[1:5]]
        rank = head.rank
        if node.attributes.get("training_mode", 0) or rank is None or len(tensors) != 4:
            return None
        if node.inputs[0] in self._graph.constants or rank < 2:
            return None
        shape = (-1, *[1] * (rank - 2))
        arrays = [array.astype(np.float64).reshape(shape) for array in tensors if array is not None]
        if len(arrays) != 4:
            return None
        scale, bias, mean, variance = arrays
        with np.errstate(all="ignore"):
            factor = scale / np.sqrt(variance + node.attributes.get("epsilon", float(np.float32(1e-5))))
            offset = bias - mean * factor
        fitted = self._fitting(head, factor), self._fitting(head, offset)
        return None if fitted[0] is None or fitted[1] is None else (fitted[0], fitted[1])

    def _fitting(self, head: _Head, numbers: Numbers) -> Numbers | None:
        """`numbers` if they are per channel here, and add no axis; leading axes of one taken away."""
        if numbers.ndim and numbers.ndim > (head.rank or 1):
            return None
        if head.shape is None:
            return numbers if numbers.size and numbers.ndim <= (head.rank or 0) else None
        while numbers.ndim > len(head.shape):
            if numbers.shape[0] != 1:
                return None
            numbers = numbers[0]
        try:
            together = np.broadcast_shapes(numbers.shape, head.shape)
        except ValueError:
            return None
        return numbers if together == head.shape else None


def _without_leading_ones(numbers: Numbers, shape: tuple[int, ...] | None) -> Numbers:
    """Exporters differ in how many axes of one they write first; a chain of its own keeps none."""
    if shape is not None:
        return numbers
    while numbers.ndim and numbers.shape[0] == 1:
        numbers = numbers[0]
    return numbers

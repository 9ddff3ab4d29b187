"""A structure with its numbers while it is being turned into what an engine runs best."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from planner.networks.reading.write import to_onnx
from planner.networks.structure import Constant, Op, Port, Structure, TensorType

Shape = tuple[int | str, ...]


class Editing:
    """Ops in order, tensors that stay constant with their numbers, and inputs that are added.

    Who gives and who reads a value is kept true as ops change, so that a change takes the time of the ops
    beside it, however many there are.
    """

    def __init__(
        self, original: Structure, tensors: Mapping[str, NDArray[Any]], shapes: Mapping[str, Shape]
    ) -> None:
        """shapes: of every value of the original network that is known; free sizes are words."""
        self.original = original
        self.tensors = dict(tensors)
        self.shapes = dict(shapes)
        self.inputs: list[Port] = []
        self.constants: dict[str, Constant] = {}
        self._made = 0
        self._output_names = frozenset(port.name for port in original.outputs)
        self._places: dict[int, list[Op]] = {}
        """Of the original ops, each with what stands there now: a change leaves the others where they are."""
        self._place_of: dict[int, int] = {}
        """By the identity of each op that is in `_places`."""
        self._producers: dict[str, Op] = {}
        self._readers: dict[str, dict[int, Op]] = {}
        for place, op in enumerate(original.ops):
            self._put(place, [op])

    @property
    def ops(self) -> list[Op]:
        """All of them, in order: a list of the caller's own."""
        return [op for place in sorted(self._places) for op in self._places[place]]

    def has(self, op: Op) -> bool:
        """Whether this very op has been neither replaced nor taken out."""
        return id(op) in self._place_of

    def readers(self, name: str) -> list[Op]:
        """The ops that read a value, each once, in order."""
        return sorted(self._readers.get(name, {}).values(), key=lambda op: self._place_of[id(op)])

    def producer(self, name: str) -> Op | None:
        """The op that gives a value; None for inputs, tensors and constants."""
        return self._producers.get(name)

    def output_names(self) -> frozenset[str]:
        return self._output_names

    def new_name(self) -> str:
        self._made += 1
        return f"n{self._made - 1}"

    def constant(self, array: NDArray[Any]) -> str:
        """The name of a new constant."""
        name = self.new_name()
        self.constants[name] = Constant(array.dtype.name, array.shape, tuple(array.reshape(-1).tolist()))
        return name

    def numbers(self, name: str) -> NDArray[Any] | None:
        """Of a tensor or constant; None for anything else."""
        if name in self.tensors:
            return self.tensors[name]
        constant = self.constants.get(name) or self.original.constants.get(name)
        return None if constant is None else constant.array()

    def replace(self, old: Op, *new: Op) -> None:
        """Put others, or none, where an op is."""
        place = self._place_of[id(old)]
        ops = self._places[place]
        at = next(at for at, op in enumerate(ops) if op is old)
        self._put(place, [*ops[:at], *new, *ops[at + 1 :]])

    def remove(self, op: Op) -> None:
        """Take out an op whose results nothing reads, or another op gives."""
        self.replace(op)

    def drop(self, op: Op, source: str) -> bool:
        """Take out an op that gives its input `source` unchanged. False: both names are needed outside."""
        (result,) = op.outputs
        producer = self.producer(source)
        if result in self.output_names() and (producer is None or source in self.output_names()):
            return False
        kept, gone = (result, source) if result in self.output_names() else (source, result)
        self.remove(op)
        naming = [*self.readers(gone), *([self._producers[gone]] if gone in self._producers else [])]
        for other in naming:
            self.replace(other, _renamed(other, gone, kept))
        return True

    def _put(self, place: int, ops: list[Op]) -> None:
        for op in self._places.get(place, ()):
            del self._place_of[id(op)]
            for name in op.outputs:
                if self._producers.get(name) is op:
                    del self._producers[name]
            for name in set(op.inputs):
                del self._readers[name][id(op)]
        self._places[place] = ops
        for op in ops:
            self._place_of[id(op)] = place
            self._producers.update(dict.fromkeys(op.outputs, op))
            for name in set(op.inputs):
                self._readers.setdefault(name, {})[id(op)] = op

    def structure(self) -> Structure:
        """What is left; tensors and constants that nothing reads any more are gone."""
        ops = self.ops
        read = {name for op in ops for name in op.inputs}
        types = {n: TensorType(a.dtype.name, a.shape) for n, a in self.tensors.items() if n in read}
        constants = {**self.original.constants, **self.constants}
        return msgspec.structs.replace(
            self.original,
            inputs=(*self.original.inputs, *self.inputs),
            tensors=types,
            constants={name: constant for name, constant in constants.items() if name in read},
            ops=tuple(ops),
        )


def editing(structure: Structure, tensors: Mapping[str, NDArray[Any]]) -> Editing:
    return Editing(structure, tensors, shapes_of(structure))


def shapes_of(structure: Structure) -> dict[str, Shape]:
    """Shapes of all values, tensors and constants, as far as ONNX can infer them."""
    model = onnx.shape_inference.infer_shapes(to_onnx(structure, {}))
    found: dict[str, Shape] = {}
    for info in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = info.type.tensor_type
        if tensor.HasField("shape"):
            sides = tensor.shape.dim
            found[info.name] = tuple(
                side.dim_value if side.HasField("dim_value") else side.dim_param for side in sides
            )
    found.update({name: constant.shape for name, constant in structure.constants.items()})
    return found


def other_input(op: Op, name: str) -> str:
    """The input of an op of two that is not `name`."""
    return op.inputs[1] if op.inputs[0] == name else op.inputs[0]


def per_channel(shape: Shape, value: Shape) -> bool:
    """Whether a tensor of this shape holds one number per channel (axis 1) of a value of that shape."""
    if len(shape) != len(value) - 1 or len(shape) < 1:
        return False
    return shape[0] == value[1] and all(side == 1 for side in shape[1:])


def no_wider(shape: Shape, value: Shape) -> bool:
    """Whether a tensor of this shape broadcasts against a value without making it larger."""
    if len(shape) > len(value):
        return False
    last = value[len(value) - len(shape) :]
    return all(side in (1, whole) for side, whole in zip(shape, last, strict=True))


def float64_product(tensor: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """Rounded once."""
    return np.asarray((tensor.astype(np.float64) * factor.astype(np.float64)).astype(tensor.dtype))


def _renamed(op: Op, old: str, new: str) -> Op:
    if old not in op.inputs and old not in op.outputs:
        return op
    return msgspec.structs.replace(
        op,
        inputs=tuple(new if name == old else name for name in op.inputs),
        outputs=tuple(new if name == old else name for name in op.outputs),
    )

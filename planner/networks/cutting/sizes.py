"""How large the values inside a network are, and how long its operators should take, for one input size."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import msgspec
import onnx
from onnx import helper, shape_inference

from planner.networks.reading.write import to_onnx
from planner.networks.structure import Op, Structure, TensorType

FLOPS_PER_S = 9e10
"""Multiplications and additions of a convolution, on one core (AMD EPYC with AVX-512, onnxruntime, fp32).
Only ratios matter here: on other machines all of these move together."""
BYTES_PER_S = 4e9
"""What an operator reads and writes: convolutions whose time is mostly memory moved 2.9 to 5.1 GB/s."""
FUSED_BYTES_PER_S = 4e10
"""The same of what the runtime does in one pass with the operator before: hardly anything, but not nothing,
so that such an operator stays with the one before it. A guess."""

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "QLinearConv"})

_FUSED = frozenset(
    {"Add", "Mul", "BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Elu", "Clip", "Sigmoid", "Tanh"}
)
"""Where all inputs but one are numbers of the network."""

Dims = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the values of one network, by name; a value is missing where inference did not find it.

    types: for one size of input; dims: for any, with None where the size is free.
    """

    types: Mapping[str, TensorType]
    dims: Mapping[str, Dims]

    def seconds(self, op: Op) -> float:
        """What the operator should take alone; 0 where sizes are not known."""
        known = [self.types[name] for name in (*op.inputs, *op.outputs) if name in self.types]
        computed = [name for name in op.inputs if name[:1] in ("v", "x", "y")]
        rate = FUSED_BYTES_PER_S if op.type in _FUSED and len(computed) == 1 else BYTES_PER_S
        return sum(type_.nbytes for type_ in known) / rate + 2.0 * self._products(op) / FLOPS_PER_S

    def _products(self, op: Op) -> int:
        if op.type not in _PRODUCTS or not {*op.inputs[:2], op.outputs[0]} <= self.types.keys():
            return 0
        source, weight = self.types[op.inputs[0]].shape, self.types[op.inputs[1]].shape
        if op.type == "ConvTranspose":
            return prod(source) * prod(weight[1:])
        if op.type in ("Gemm", "MatMul"):
            return prod(self.types[op.outputs[0]].shape) * (source[-1] if source else 1)
        return prod(self.types[op.outputs[0]].shape) * prod(weight[1:])


def sizes_of(structure: Structure, fed: tuple[int, ...]) -> Sizes | None:
    """fed: shape of x0; its free sizes are taken from it. None if no input of that rank can be fed."""
    first = structure.inputs[0]
    if len(first.shape) != len(fed):
        return None
    words = {word: size for word, size in zip(first.shape, fed, strict=True) if isinstance(word, str)}
    fixed = tuple(
        msgspec.structs.replace(
            port, shape=tuple(words.get(s, 1) if isinstance(s, str) else s for s in port.shape)
        )
        for port in structure.inputs
    )
    concrete = _inferred(msgspec.structs.replace(structure, inputs=fixed))
    types = {
        name: TensorType(dtype, tuple(size for size in dims if size is not None))
        for name, (dtype, dims) in concrete.items()
        if None not in dims
    }
    return Sizes(types, {name: dims for name, (_, dims) in _inferred(structure).items()})


def _inferred(structure: Structure) -> dict[str, tuple[str, Dims]]:
    """dtype and sizes of every value, input and tensor that inference knows."""
    model = to_onnx(structure, {})
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")  # what the file says holds for its free sizes only
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    known = [*graph.input, *graph.value_info, *graph.output]
    found = {info.name: _dims(info) for info in known if info.type.tensor_type.HasField("shape")}
    for name, constant in structure.constants.items():
        found[name] = (constant.dtype, constant.shape)
    return found


def _dims(info: onnx.ValueInfoProto) -> tuple[str, Dims]:
    tensor = info.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return dtype, tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)

"""Write a stage with its layers at chosen levels: QDQ for int8, casts for bf16.

Under OpenVINO everything is told in the graph (its hint stays f32), so one network can hold all levels;
activations, pooling and concatenation stay in bf16 between layers that are. A bfloat16 bias would be rounded
too, so what rounding takes from it is added by itself, which OpenVINO fuses into the convolution.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from planner.networks.building.lift import Lifted
from planner.networks.precision.calibrate import Range
from planner.networks.precision.layers import Layer, Level
from planner.networks.precision.quantise import Numbers
from planner.networks.precision.rounding import bf16_rounded
from planner.networks.records import Engine
from planner.networks.structure import Op, TensorType

_BF16, _FLOAT = 16, 1
"""ONNX's numbers for the element types (TensorProto.DataType)."""
_BF16_OPSET = 22
"""The first in which Conv, Elu and pooling take bfloat16."""
_KEEPS_BF16 = ("Relu", "Elu", "LeakyRelu", "MaxPool", "Concat", "Resize", "Add", "Mul")
_UINT8_TOO = ("MaxPool", "Concat", "Resize")
"""What onnxruntime computes on uint8 itself where QDQ stands on both sides."""


def quantised_values(
    stage: Lifted, layers: Sequence[Layer], int8: frozenset[str], engine: Engine
) -> set[str]:
    """Values that pass through uint8 if the layers `int8` do. OpenVINO needs what they read; onnxruntime also
    what they give, and everything between two of them, or it computes in float."""
    by_name = {layer.name: layer for layer in layers}
    read = {by_name[name].source for name in int8}
    if engine == "openvino":
        return read
    consumers = stage.structure.consumers()
    producers = {name: op for op in stage.structure.ops for name in op.outputs}
    given = set()
    for name in int8:
        uses = consumers.get(name, ())
        relu = len(uses) == 1 and uses[0].type == "Relu"
        given.add(uses[0].outputs[0] if relu else name)
    waiting = list(read)
    while waiting:
        producer = producers.get(waiting.pop())
        if producer is not None and producer.type in _UINT8_TOO:
            between = producer.inputs if producer.type == "Concat" else producer.inputs[:1]
            waiting += [name for name in between if name not in read]
            read |= set(between)
    return read | given


def lowered(
    stage: Lifted,
    layers: Sequence[Layer],
    levels: Mapping[str, Level],
    numbers: Mapping[tuple[str, Level], Numbers],
    ranges: Mapping[str, Range],
    engine: Engine,
) -> Lifted:
    """The stage with each layer at its level; parameters stay inputs. Deterministic.

    levels: by layer name; absent ones stay fp32. numbers: of every layer at its level; without numbers a
    layer stays as it is. ranges: of all `quantised_values`.
    """
    int8 = frozenset(name for name, level in levels.items() if level == "int8")
    writing = _Writing(stage, engine, {n: ranges[n] for n in quantised_values(stage, layers, int8, engine)})
    starts = {
        layer.conv.outputs[0]: layer
        for layer in layers
        if (layer.name, levels.get(layer.name, "fp32")) in numbers
    }
    folded = {id(op) for layer in starts.values() for op in layer.ops[1:]}
    for port in stage.structure.inputs:
        writing.given(port.name)
    for op in stage.structure.ops:
        layer = starts.get(op.outputs[0])
        if layer is not None:
            level = levels.get(layer.name, "fp32")
            writing.layer(layer, level, numbers[layer.name, level])
        elif id(op) not in folded:
            writing.other(op)
    return writing.stage()


class _Writing:
    """Ops written so far. A value is float32 unless it is in `_bf16`."""

    def __init__(self, stage: Lifted, engine: Engine, quantised: Mapping[str, Range]) -> None:
        self._stage, self._engine, self._quantised = stage, engine, quantised
        self._parameters = {parameter.name for parameter in stage.parameters}
        self._outputs = {port.name for port in stage.structure.outputs}
        self._ops: list[Op] = []
        self._tensors = dict(stage.tensors)
        self._bf16: set[str] = set()
        self._as: dict[tuple[str, str], str] = {}
        """(value, `bf16`, `float` or `uint8`) -> the value that holds it so."""
        self._next_tensor, self._next_value = 0, 0

    def layer(self, layer: Layer, level: Level, numbers: Numbers) -> None:
        if level == "bf16":
            self._bf16_layer(layer, numbers)
        elif level == "int8":
            self._int8_layer(layer, numbers)
        else:
            inputs = (self._in_float(layer.source), self._tensor(numbers.filter), self._tensor(numbers.bias))
            self._ops.append(_conv(layer, inputs, layer.name))
            self.given(layer.name)

    def other(self, op: Op) -> None:
        """An op that stays: in bf16 where all it reads is, else in float32."""
        fed = [name for name in op.inputs if name and not self._is_constant(name)]
        inner = [name for name in fed if name not in self._parameters]
        keeps = op.type in _KEEPS_BF16 and not op.domain and inner and all(n in self._bf16 for n in inner)
        floats = any(name in self._tensors for name in op.inputs)
        if keeps and not floats and len(op.outputs) == 1:
            inputs = tuple(self._in_bf16(name) if name in fed else name for name in op.inputs)
            self._emit_bf16(msgspec.structs.replace(op, inputs=inputs))
            return
        inputs = tuple(self._in_float(name) if name in fed else name for name in op.inputs)
        self._ops.append(msgspec.structs.replace(op, inputs=inputs))
        for name in op.outputs:
            self.given(name)

    def given(self, name: str) -> None:
        """`name` has just been written; onnxruntime has it quantised at once, whoever reads it."""
        if self._engine == "onnxruntime" and name in self._quantised and name not in self._outputs:
            self._as[name, "float"] = self._in_uint8(name)

    def stage(self) -> Lifted:
        read = {name for op in self._ops for name in op.inputs}
        tensors = {name: array for name, array in self._tensors.items() if name in read}
        original = self._stage.structure
        structure = msgspec.structs.replace(
            original,
            opset=max(original.opset, _BF16_OPSET) if self._bf16 else original.opset,
            tensors={name: TensorType(a.dtype.name, a.shape) for name, a in tensors.items()},
            constants={name: value for name, value in original.constants.items() if name in read},
            ops=tuple(self._ops),
        )
        return Lifted(structure, tensors, self._stage.parameters, self._stage.items_apart)

    def _bf16_layer(self, layer: Layer, numbers: Numbers) -> None:
        filters = self._cast(self._tensor(numbers.filter), _BF16)
        coarse = bf16_rounded(numbers.bias)
        rest = (numbers.bias - coarse).astype(np.float32)
        bias = self._cast(self._tensor(coarse), _BF16)
        source = self._in_bf16(layer.source)
        if not rest.any():
            self._emit_bf16(_conv(layer, (source, filters, bias), layer.name))
            return
        plain = self._value()
        self._ops.append(_conv(layer, (source, filters, bias), plain))
        self._bf16.add(plain)
        shaped = rest.reshape(1, -1, *[1] * (numbers.filter.ndim - 2))
        self._emit_bf16(Op("Add", (plain, self._cast(self._tensor(shaped), _BF16)), (layer.name,)))

    def _int8_layer(self, layer: Layer, numbers: Numbers) -> None:
        assert numbers.scales is not None
        source = self._in_uint8(layer.source)
        scales = self._tensor(numbers.scales)
        filters = self._value()
        self._ops.append(
            Op(
                "DequantizeLinear",
                (self._tensor(numbers.filter), scales),
                (filters,),
                {"axis": layer.out_axis},
            )
        )
        bias = self._bias(layer, numbers)
        self._ops.append(_conv(layer, (source, filters, bias), layer.name))
        self.given(layer.name)

    def _bias(self, layer: Layer, numbers: Numbers) -> str:
        """onnxruntime wants it in int32, in steps of what one product of int8 numbers is worth."""
        if self._engine == "openvino":
            return self._tensor(numbers.bias)
        assert numbers.scales is not None
        steps = numbers.scales.astype(np.float64) * float(self._quantised[layer.source].scale)
        limits = np.iinfo(np.int32)
        whole = np.clip(np.rint(numbers.bias / steps), limits.min, limits.max).astype(np.int32)
        bias = self._value()
        scales = self._tensor(steps.astype(np.float32))
        self._ops.append(Op("DequantizeLinear", (self._tensor(whole), scales), (bias,), {"axis": 0}))
        return bias

    def _emit_bf16(self, op: Op) -> None:
        """Append an op that gives bf16; a graph's output is float32 all the same."""
        (name,) = op.outputs
        if name not in self._outputs:
            self._ops.append(op)
            self._bf16.add(name)
            return
        inner = self._value()
        self._ops.append(msgspec.structs.replace(op, outputs=(inner,)))
        self._ops.append(Op("Cast", (inner,), (name,), {"to": _FLOAT}))

    def _in_bf16(self, name: str) -> str:
        if name in self._bf16:
            return name
        return self._once(name, "bf16", lambda: self._cast(name, _BF16))

    def _in_float(self, name: str) -> str:
        if name not in self._bf16 and (name, "float") not in self._as:
            return name
        return self._once(name, "float", lambda: self._cast(name, _FLOAT))

    def _in_uint8(self, name: str) -> str:
        return self._once(name, "uint8", lambda: self._quantise(name))

    def _quantise(self, name: str) -> str:
        """Q and DQ behind a value: float32 again, on 256 steps."""
        ends = self._quantised[name]
        scale = self._tensor(np.array(ends.scale, np.float32))
        zero = self._tensor(np.array(ends.zero_point, np.uint8))
        coarse, back = self._value(), self._value()
        source = self._in_float(name)
        self._ops.append(Op("QuantizeLinear", (source, scale, zero), (coarse,)))
        self._ops.append(Op("DequantizeLinear", (coarse, scale, zero), (back,)))
        return back

    def _once(self, name: str, kind: str, make: Any) -> str:
        if (name, kind) not in self._as:
            self._as[name, kind] = make()
        return self._as[name, kind]

    def _cast(self, name: str, to: int) -> str:
        result = self._value()
        self._ops.append(Op("Cast", (name,), (result,), {"to": to}))
        return result

    def _tensor(self, array: NDArray[Any]) -> str:
        name = f"p{self._next_tensor}"  # no name that a structure or a lifted stage gives
        self._next_tensor += 1
        self._tensors[name] = np.ascontiguousarray(array)
        return name

    def _value(self) -> str:
        self._next_value += 1
        return f"q{self._next_value - 1}"

    def _is_constant(self, name: str) -> bool:
        return name in self._tensors or name in self._stage.structure.constants


def _conv(layer: Layer, inputs: tuple[str, ...], output: str) -> Op:
    return msgspec.structs.replace(layer.conv, inputs=inputs, outputs=(output,))

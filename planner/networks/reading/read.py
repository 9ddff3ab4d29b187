"""An ONNX file as a graph: parsed in bounded memory, checked, its tensors as views of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from planner.networks.errors import NetworkRefused, NotOpenable
from planner.networks.reading.canonical.graph import Graph, Node, Type
from planner.networks.reading.external import ExternalFiles
from planner.networks.reading.functions import written_out
from planner.networks.reading.limits import Limits
from planner.networks.reading.wire import Skeleton, Span, WireError, skeleton_of
from planner.networks.records import LARGE_BYTES
from planner.networks.structure import Port

OLDEST_OPSET, NEWEST_OPSET = 11, 26
"""Newest: the last that onnxruntime 1.31 takes."""
CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.BOOL: "bool",
}
MOST_IN_ATTRIBUTE = 1
"""Elements of a tensor in an attribute: but for Constant, only ConstantOfShape has one, of one number."""
ELEMENTS: dict[str, int] = {name: element for element, name in DTYPES.items()}


def read_graph(path: Path, overrides: Mapping[str, NDArray[Any]] | None, limits: Limits) -> Graph:
    """Read and check an ONNX file.

    Arrays are read-only views of the file's bytes, or of mapped files beside it; large ones may be unaligned.
    overrides: arrays that replace initialisers of these names; equal shape and dtype.

    Raises: NetworkRefused: not-onnx, truncated, corrupt, nesting, too-large, invalid, cycle, duplicate-name,
    absurd-shape, path-traversal, missing-data, unknown-tensor, wrong-shape. NotOpenable: unknown-opset,
    control-flow, custom-operator, data-type, random, sequence, no-shape.
    """
    return _Reader(path, limits).read(overrides or {})


class _Reader:
    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits = path, limits
        self._external = ExternalFiles(path, limits)
        self._data = b""

    def read(self, overrides: Mapping[str, NDArray[Any]]) -> Graph:
        skeleton, model = self._parsed()
        opset = self._opset(model)
        if model.functions:
            for (node, place), span in skeleton.attributes.items():  # places of nodes are about to change
                model.graph.node[node].attribute[place].t.raw_data = self._data[span.start : span.end]
            skeleton.attributes.clear()
            model = written_out(model, self._limits, self._path)
        self._check_operators(model.graph, opset)
        constants = self._initialisers(model.graph, skeleton)
        self._override(constants, overrides)
        inputs = [self._port(info) for info in model.graph.input if info.name not in constants]
        outputs = [self._port(info, output=True) for info in model.graph.output]
        nodes = self._nodes(model.graph, opset, skeleton, constants)
        names_out = [info.name for info in model.graph.output]
        graph = Graph(opset, inputs, outputs, names_out, nodes, constants)
        graph.types = {port.name: Type(port.dtype, port.shape) for port in inputs}
        self._check_names(graph, model.graph)
        self._check_standard(model, opset, graph)
        return graph

    def _parsed(self) -> tuple[Skeleton, onnx.ModelProto]:
        try:
            if self._path.stat().st_size > self._limits.file_bytes:
                raise self._refused("too-large", f"larger than {self._limits.file_bytes} bytes")
            self._data = self._path.read_bytes()
        except OSError as error:
            raise self._refused("missing-data", _why_not(error)) from error
        model = onnx.ModelProto()
        try:
            skeleton = skeleton_of(self._data, self._limits)
            model.ParseFromString(skeleton.model)
        except WireError as error:
            raise self._refused(error.reason, str(error)) from error
        except Exception as error:  # protobuf's DecodeError; its package has no types
            raise self._refused("corrupt", "no ONNX model") from error
        return skeleton, model

    def _refused(self, reason: str, message: str) -> NetworkRefused:
        return NetworkRefused(self._path, reason, message)

    def _opset(self, model: onnx.ModelProto) -> int:
        found = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        if not found:
            raise self._refused("invalid", "no version of the standard operators is given")
        if len(set(found)) > 1:
            raise self._refused("invalid", "two versions of the standard operators are given")
        if not OLDEST_OPSET <= found[0] <= NEWEST_OPSET:
            raise NotOpenable(
                "unknown-opset", f"opset {found[0]} is not one of {OLDEST_OPSET} to {NEWEST_OPSET}"
            )
        return int(found[0])

    def _check_operators(self, graph: onnx.GraphProto, opset: int) -> None:
        names = [
            name for node in graph.node for name in (node.op_type, node.domain, *node.input, *node.output)
        ]
        names += [item.name for held in (graph.input, graph.output, graph.initializer) for item in held]
        names += [attribute.name for node in graph.node for attribute in node.attribute]
        if not all(isinstance(name, str) for name in names):  # protobuf gives bytes for what is no UTF-8
            raise self._refused("corrupt", "a name that is no text")
        if graph.sparse_initializer:
            raise NotOpenable("data-type", "sparse tensors are not opened")
        for kind in dict.fromkeys((node.domain, node.op_type) for node in graph.node):
            domain, operator = kind
            if domain not in ("", "ai.onnx") or not onnx.defs.has(operator):
                raise NotOpenable("custom-operator", f"operator {domain}{'.' * bool(domain)}{operator}")
            if operator in CONTROL_FLOW:
                raise NotOpenable("control-flow", f"operator {operator}")
            if operator in RANDOM:
                raise NotOpenable("random", f"operator {operator}")
            if "Sequence" in operator or "Optional" in operator:
                raise NotOpenable("sequence", f"operator {operator}")
            try:
                deprecated = onnx.defs.get_schema(operator, opset, "").deprecated
            except onnx.defs.SchemaError:
                deprecated = True
            if deprecated and not (operator == "GroupNormalization" and opset >= 18):  # `upgrade` mends it
                raise NotOpenable("custom-operator", f"operator {operator} is not in opset {opset}")

    def _initialisers(self, graph: onnx.GraphProto, skeleton: Skeleton) -> dict[str, NDArray[Any]]:
        constants: dict[str, NDArray[Any]] = {}
        for place, tensor in enumerate(graph.initializer):
            if tensor.name in constants:
                raise self._refused("duplicate-name", f"two tensors '{tensor.name[:60]}'")
            constants[tensor.name] = self._array(tensor, skeleton.initialisers.get(place))
        return constants

    def _override(self, constants: dict[str, NDArray[Any]], overrides: Mapping[str, NDArray[Any]]) -> None:
        for name, value in overrides.items():
            if name not in constants:
                raise self._refused("unknown-tensor", f"has no tensor '{name[:60]}' to replace")
            there = constants[name]
            if value.shape != there.shape or value.dtype != there.dtype:
                raise self._refused(
                    "wrong-shape",
                    f"'{name[:60]}' is {there.dtype}{there.shape}, not {value.dtype}{value.shape}",
                )
            constants[name] = value

    def _array(self, tensor: TensorProto, span: Span | None) -> NDArray[Any]:
        if tensor.data_type not in DTYPES:
            if tensor.data_type == TensorProto.UNDEFINED:
                raise self._refused("invalid", "a tensor without a type")
            raise NotOpenable("data-type", f"tensors of type {tensor.data_type} are not opened")
        dtype = np.dtype(DTYPES[tensor.data_type])
        shape = tuple(tensor.dims)
        count = self._count(shape)
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._external.array(tensor, dtype, shape)
        if span is not None:
            numbers = np.frombuffer(memoryview(self._data)[span.start : span.end], np.uint8)
        elif tensor.HasField("raw_data"):
            numbers = np.frombuffer(tensor.raw_data, np.uint8)
        else:
            return self._typed(tensor, dtype, count).reshape(shape)
        if numbers.size != count * dtype.itemsize:
            raise self._refused("absurd-shape", f"{numbers.size} bytes for a tensor of shape {list(shape)}")
        if numbers.size < LARGE_BYTES:
            numbers = numbers.copy()  # aligned, and the model's bytes need not stay for it
            numbers.flags.writeable = False
        return numbers.view(dtype).reshape(shape)

    def _count(self, shape: tuple[int, ...]) -> int:
        if len(shape) > self._limits.rank or any(size < 0 for size in shape):
            raise self._refused("absurd-shape", f"a tensor of shape {list(shape[:20])}")
        count = 1
        for size in shape:
            count *= size
        if count > 1 << 48:
            raise self._refused("absurd-shape", f"a tensor of shape {list(shape)}")
        return count

    def _typed(self, tensor: TensorProto, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """Numbers in a field of their type instead of raw bytes."""
        if tensor.data_type == TensorProto.FLOAT:
            numbers: Any = tensor.float_data
        elif tensor.data_type == TensorProto.DOUBLE:
            numbers = tensor.double_data
        elif tensor.data_type == TensorProto.INT64:
            numbers = tensor.int64_data
        elif tensor.data_type in (TensorProto.UINT32, TensorProto.UINT64):
            numbers = tensor.uint64_data
        else:
            numbers = tensor.int32_data
        if len(numbers) != count:
            raise self._refused("absurd-shape", f"{len(numbers)} numbers for a tensor of {count}")
        try:
            if tensor.data_type == TensorProto.FLOAT16:  # as bits
                return np.array(numbers, np.uint16).view(np.float16)
            return np.array(numbers, dtype)
        except OverflowError as error:
            raise self._refused("corrupt", f"a number outside {dtype}") from error

    def _port(self, info: onnx.ValueInfoProto, *, output: bool = False) -> Port:
        """The file's input or output. Free sizes without a word get one; unknown outputs have no dtype."""
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            if output and kind is None:
                return Port(info.name, "", ())
            raise NotOpenable("sequence", f"'{info.name[:60]}' is no tensor")
        declared = info.type.tensor_type
        if declared.elem_type not in DTYPES:
            raise NotOpenable("data-type", f"'{info.name[:60]}' has type {declared.elem_type}")
        if not declared.HasField("shape"):
            if output:
                return Port(info.name, "", ())
            raise NotOpenable("no-shape", f"'{info.name[:60]}' has no shape")
        if len(declared.shape.dim) > self._limits.rank:
            raise self._refused("absurd-shape", f"'{info.name[:60]}' has {len(declared.shape.dim)} axes")
        sizes: list[int | str] = []
        for axis, size in enumerate(declared.shape.dim):
            if not isinstance(size.dim_param, str):
                raise self._refused("corrupt", "a size that is no text")
            if size.WhichOneof("value") != "dim_value":
                sizes.append(size.dim_param or f"\0{info.name}.{axis}")
            elif 0 <= size.dim_value < 1 << 40:
                sizes.append(size.dim_value)
            elif output:
                sizes.append(f"\0{info.name}.{axis}")
            else:
                raise self._refused("absurd-shape", f"'{info.name[:60]}' has a size of {size.dim_value}")
        return Port(info.name, DTYPES[declared.elem_type], tuple(sizes))

    def _nodes(
        self, graph: onnx.GraphProto, opset: int, skeleton: Skeleton, constants: dict[str, NDArray[Any]]
    ) -> list[Node]:
        """All nodes but Constants, whose tensors go to `constants`."""
        nodes = []
        for place, proto in enumerate(graph.node):
            if proto.op_type == "Constant":
                name = proto.output[0] if proto.output else ""
                if not name or name in constants:
                    raise self._refused("duplicate-name", f"two values '{name[:60]}'")
                constants[name] = self._constant(proto, place, skeleton)
                continue
            attributes = {
                attribute.name: self._attribute(
                    proto.op_type, opset, attribute, skeleton.attributes.get((place, number))
                )
                for number, attribute in enumerate(proto.attribute)
            }
            nodes.append(Node(proto.op_type, list(proto.input), list(proto.output), attributes))
        return nodes

    def _constant(self, proto: onnx.NodeProto, place: int, skeleton: Skeleton) -> NDArray[Any]:
        if len(proto.attribute) != 1:
            raise self._refused("invalid", "a Constant needs one value")
        attribute = proto.attribute[0]
        if attribute.name == "value":
            return self._array(attribute.t, skeleton.attributes.get((place, 0)))
        if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            kind = np.float32 if "float" in attribute.name else np.int64
            return np.array(onnx.helper.get_attribute_value(attribute), kind)
        raise NotOpenable("data-type", f"a Constant with {attribute.name[:60]}")

    def _attribute(self, operator: str, opset: int, attribute: onnx.AttributeProto, span: Span | None) -> Any:
        """As a JSON value; a tensor becomes a mapping. It must have a place before anything is made of it."""
        kinds = onnx.AttributeProto
        known = onnx.defs.get_schema(operator, opset, "").attributes.get(attribute.name)
        if known is None or str(known.type).rpartition(".")[2] != kinds.AttributeType.Name(attribute.type):
            raise self._refused("invalid", f"{operator} has no attribute {attribute.name[:60]} of this type")
        if attribute.type == kinds.TENSOR:
            if self._count(tuple(attribute.t.dims)) > MOST_IN_ATTRIBUTE:
                raise self._refused("invalid", f"attribute {attribute.name[:60]} is no single number")
            value = self._array(attribute.t, span)
            return {"dtype": value.dtype.name, "shape": list(value.shape), "numbers": value.ravel().tolist()}
        if attribute.type == kinds.STRING:
            return attribute.s.decode("utf-8", "replace")
        if attribute.type == kinds.STRINGS:
            return [text.decode("utf-8", "replace") for text in attribute.strings]
        if attribute.type in (kinds.INT, kinds.INTS, kinds.FLOAT, kinds.FLOATS):
            found = onnx.helper.get_attribute_value(attribute)
            numbers = list(found) if attribute.type in (kinds.INTS, kinds.FLOATS) else found
            if not np.isfinite(numbers).all():
                raise NotOpenable("data-type", f"attribute {attribute.name[:60]} is not finite")
            return numbers
        raise NotOpenable("control-flow", f"attribute {attribute.name[:60]} is a graph or a type")

    def _check_names(self, graph: Graph, proto: onnx.GraphProto) -> None:
        known = {info.name for info in proto.input} | set(graph.constants)
        if len({info.name for info in proto.input}) != len(proto.input):
            raise self._refused("duplicate-name", "two inputs of one name")
        if len({info.name for info in proto.output}) != len(proto.output):
            raise self._refused("duplicate-name", "two outputs of one name")
        constant_nodes = {node.output[0] for node in proto.node if node.op_type == "Constant"}
        if not constant_nodes.isdisjoint(info.name for info in proto.input):
            raise self._refused("duplicate-name", "a value has the name of an input")
        for node in graph.nodes:
            for name in node.outputs:
                if name and name in known:
                    raise self._refused("duplicate-name", f"two values '{name[:60]}'")
                known.add(name)
        known.add("")
        for name in [*(name for node in graph.nodes for name in node.inputs), *graph.names_out]:
            if name not in known:
                raise self._refused("invalid", f"nothing computes '{name[:60]}'")
        if not graph.names_out or "" in graph.names_out:
            raise self._refused("invalid", "no output")
        if not graph.sort():
            raise self._refused("cycle", "values that depend on themselves")

    def _check_standard(self, model: onnx.ModelProto, opset: int, read: Graph) -> None:
        """Let onnx compare every operator with the standard; numbers are not needed for that."""
        graph, constants = model.graph, read.constants
        order = {name: place for place, node in enumerate(read.nodes) for name in node.outputs if name}
        nodes = sorted(
            (_undeprecated(node, opset) for node in graph.node if node.op_type != "Constant"),
            key=lambda node: order.get(next(filter(None, node.output), ""), 0),
        )
        ports = {info.name for info in graph.input}
        lean = onnx.helper.make_model(
            onnx.helper.make_graph(
                nodes,
                "network",
                [
                    *graph.input,
                    *(
                        onnx.helper.make_tensor_value_info(name, ELEMENTS[value.dtype.name], value.shape)
                        for name, value in constants.items()
                        if name not in ports
                    ),
                ],
                # The checker insists on shapes of outputs, which the standard lets a file leave out.
                [
                    onnx.helper.make_tensor_value_info(info.name, TensorProto.FLOAT, [])
                    for info in graph.output
                ],
            ),
            opset_imports=list(model.opset_import),
        )
        lean.ir_version = 10
        try:
            onnx.checker.check_model(lean)
        except onnx.checker.ValidationError as error:
            first = str(error).partition("\n")[0]
            raise self._refused("invalid", first[:200]) from error


def _why_not(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return "is a folder" if isinstance(error, IsADirectoryError) else "cannot be opened"


def _undeprecated(node: onnx.NodeProto, opset: int) -> onnx.NodeProto:
    """The first GroupNormalization (scale and bias per group) as the operator it is checked like.

    The checker refuses it as deprecated, though files of opset 18 to 20 have it; InstanceNormalization takes
    the same inputs and attributes, but for those that are looked at here and left out.
    """
    if node.op_type != "GroupNormalization" or opset >= 21:
        return node
    groups = [a.i for a in node.attribute if a.name == "num_groups" and a.type == onnx.AttributeProto.INT]
    checked = onnx.NodeProto()
    checked.CopyFrom(node)
    if len(groups) == 1 and groups[0] > 0:
        checked.op_type = "InstanceNormalization"
        del checked.attribute[:]
        checked.attribute.extend(a for a in node.attribute if a.name != "num_groups")
    return checked

"""The protobuf layer of an ONNX file: where its large numbers lie, and the file without them.

Parsing a model copies its tensors twice. Here the file is walked once, at the level of fields only; large raw
numbers are cut out and stay where they are in memory, and only the rest, a few kilobytes, is parsed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from planner.networks.reading.limits import Limits

CUT_FROM = 512
"""Bytes; smaller tensors stay in the model."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
MODEL_IR_VERSION, MODEL_GRAPH = 1, 7
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_ATTRIBUTE = 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 5, 6, 11
TENSOR_FLOAT_DATA, TENSOR_RAW_DATA, TENSOR_DOUBLE_DATA = 4, 9, 10


_OVERRUN = {
    "truncated": "ends in the middle",
    "corrupt": "is damaged: something in it is said to be longer than what it is part of",
}


class WireError(Exception):
    """reason: truncated, corrupt, not-onnx, nesting or too-large."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Span(NamedTuple):
    """Bytes of the file, from `start` to before `end`."""

    start: int
    end: int


@dataclass(slots=True)
class Skeleton:
    """A model without its large numbers.

    initialisers: by place in graph.initializer, where the little-endian numbers of that tensor lie;
    attributes: likewise by (place of the node, place of its attribute), for tensors in attributes.
    """

    model: bytes
    initialisers: dict[int, Span] = field(default_factory=dict)
    attributes: dict[tuple[int, int], Span] = field(default_factory=dict)


class _Field(NamedTuple):
    number: int
    kind: int
    start: int
    """Of the tag."""
    value: Span


@dataclass(slots=True)
class _File:
    """The bytes, and how many fields of them may still be walked."""

    data: bytes
    limits: Limits
    fields: int

    def fields_of(self, span: Span, *, within: bool = False) -> Iterator[_Field]:
        """The fields of one message. Raises WireError, also where it has more than may be walked."""
        for item in _fields(self.data, span, within=within):
            self.fields -= 1
            if self.fields < 0:
                raise WireError("too-large", f"more than {self.limits.fields} fields")
            yield item


def skeleton_of(data: bytes, limits: Limits) -> Skeleton:
    """Cut large numbers out of a serialised ModelProto. Raises WireError; memory: that of the rest."""
    file = _File(data, limits, limits.fields)
    result = Skeleton(b"")
    parts: list[bytes] = []
    graphs = 0
    seen: set[int] = set()
    try:
        for item in file.fields_of(Span(0, len(data))):
            if item.number not in MODEL_FIELDS:
                raise WireError("corrupt" if MODEL_IR_VERSION in seen else "not-onnx", "no ONNX model")
            seen.add(item.number)
            if item.number == MODEL_GRAPH and item.kind == BYTES:
                graphs += 1
                graph = _graph(file, item.value, result)
                parts.append(_tagged(MODEL_GRAPH, graph))
            else:
                parts.append(data[item.start : item.value.end])
    except WireError as error:
        if error.reason in ("truncated", "corrupt") and MODEL_IR_VERSION not in seen:
            raise WireError("not-onnx", "no ONNX model") from error
        raise
    if MODEL_IR_VERSION not in seen:
        raise WireError("not-onnx", "no ONNX model")
    if graphs != 1:
        raise WireError("corrupt" if graphs else "truncated", f"{graphs} graphs instead of one")
    result.model = b"".join(parts)
    if len(result.model) > limits.parsed_bytes:
        raise WireError("too-large", f"more than {limits.parsed_bytes} bytes that are no tensors")
    return result


def _graph(file: _File, span: Span, result: Skeleton) -> bytes:
    parts: list[bytes] = []
    kept_from = span.start
    nodes = initialisers = 0
    for item in file.fields_of(span, within=True):
        replaced: bytes | None = None
        if item.number == GRAPH_NODE and item.kind == BYTES:
            replaced = _node(file, item.value, nodes, result)
            nodes += 1
        elif item.number == GRAPH_INITIALIZER and item.kind == BYTES:
            cut = _tensor(file, item.value)
            if cut is not None:
                replaced, result.initialisers[initialisers] = cut
            initialisers += 1
        if nodes > file.limits.nodes or initialisers > file.limits.tensors:
            raise WireError(
                "too-large", f"more than {file.limits.nodes} nodes or {file.limits.tensors} tensors"
            )
        if replaced is not None:
            parts += [file.data[kept_from : item.start], _tagged(item.number, replaced)]
            kept_from = item.value.end
    parts.append(file.data[kept_from : span.end])
    return b"".join(parts)


def _node(file: _File, span: Span, place: int, result: Skeleton) -> bytes | None:
    parts: list[bytes] = []
    kept_from, attribute = span.start, 0
    for item in file.fields_of(span, within=True):
        if item.number != NODE_ATTRIBUTE or item.kind != BYTES:
            continue
        cut = _attribute(file, item.value)
        if cut is not None:
            replaced, result.attributes[place, attribute] = cut
            parts += [file.data[kept_from : item.start], _tagged(NODE_ATTRIBUTE, replaced)]
            kept_from = item.value.end
        attribute += 1
    return b"".join([*parts, file.data[kept_from : span.end]]) if parts else None


def _attribute(file: _File, span: Span) -> tuple[bytes, Span] | None:
    found: tuple[bytes, Span] | None = None
    tensors = 0
    for item in file.fields_of(span, within=True):
        if item.kind != BYTES:
            continue
        if item.number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
            _check_nesting(file, item.value)
        elif item.number == ATTRIBUTE_TENSOR:
            tensors += 1
            cut = _tensor(file, item.value)
            if cut is not None:
                before, after = file.data[span.start : item.start], file.data[item.value.end : span.end]
                found = (before + _tagged(ATTRIBUTE_TENSOR, cut[0]) + after, cut[1])
    if found is not None and tensors > 1:
        raise WireError("corrupt", "an attribute has two tensors")
    return found


def _tensor(file: _File, span: Span) -> tuple[bytes, Span] | None:
    """The tensor without its numbers and where those lie; None if they are few or not raw."""
    if span.end - span.start < CUT_FROM:
        return None
    raw = [
        item
        for item in file.fields_of(span, within=True)
        if item.number in (TENSOR_RAW_DATA, TENSOR_FLOAT_DATA, TENSOR_DOUBLE_DATA) and item.kind == BYTES
    ]
    if not raw or max(item.value.end - item.value.start for item in raw) < CUT_FROM:
        return None
    if len(raw) > 1:
        raise WireError("corrupt", "a tensor has its numbers twice")
    return file.data[span.start : raw[0].start] + file.data[raw[0].value.end : span.end], raw[0].value


def _check_nesting(file: _File, span: Span) -> None:
    """Graphs in attributes of nodes of a graph ...: found without recursion, whatever the depth."""
    waiting = [(span, 1)]
    while waiting:
        graph, depth = waiting.pop()
        if depth > file.limits.nesting:
            raise WireError("nesting", f"more than {file.limits.nesting} graphs within graphs")
        for node in file.fields_of(graph, within=True):
            if node.number != GRAPH_NODE or node.kind != BYTES:
                continue
            for attribute in file.fields_of(node.value, within=True):
                if attribute.number != NODE_ATTRIBUTE or attribute.kind != BYTES:
                    continue
                waiting += [
                    (item.value, depth + 1)
                    for item in file.fields_of(attribute.value, within=True)
                    if item.number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS) and item.kind == BYTES
                ]


def _fields(data: bytes, span: Span, *, within: bool = False) -> Iterator[_Field]:
    """The fields of one message. within: a message in another, so running past its end is no truncation."""
    overrun = "corrupt" if within else "truncated"
    place = span.start
    while place < span.end:
        start = place
        tag, place = _varint(data, place, span.end, overrun)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError("corrupt", "a field without a number")
        if kind == VARINT:
            _, end = _varint(data, place, span.end, overrun)
        elif kind == BYTES:
            length, place = _varint(data, place, span.end, overrun)
            end = place + length
        elif kind in (FIXED64, FIXED32):
            end = place + (8 if kind == FIXED64 else 4)
        else:
            raise WireError("corrupt", f"wire type {kind} is not used by ONNX")
        if end > span.end:
            raise WireError(overrun, _OVERRUN[overrun])
        yield _Field(number, kind, start, Span(place, end))
        place = end


def _varint(data: bytes, place: int, end: int, overrun: str) -> tuple[int, int]:
    value = shift = 0
    while place < end:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise WireError("corrupt", "a number of more than 64 bits")
    raise WireError(overrun, _OVERRUN[overrun])


def _tagged(number: int, value: bytes) -> bytes:
    return bytes([*_varint_bytes(number << 3 | BYTES), *_varint_bytes(len(value))]) + value


def _varint_bytes(value: int) -> list[int]:
    result = []
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return [*result, value]

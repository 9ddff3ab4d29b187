"""Lifted scales and offsets where an engine takes them cheapest, while a batch belongs to one member.

onnxruntime reads and writes a value once for each of Mul, Add and Relu, but once for all three as a
convolution 1x1 with one filter per channel, whose filter and bias are the scale and the offset; and
InstanceNormalization takes both for nothing. (A 7.8 M-parameter U-Net at 256x256, one thread: 5 ms against
9 of 227.) OpenVINO fuses Mul and Add by itself.
"""

from collections.abc import Collection

import msgspec
import numpy as np

from planner.networks.building.editing import Editing, other_input, per_channel
from planner.networks.records import Parameter
from planner.networks.structure import Op, Port


def join_lifted(edit: Editing, lifted: Collection[str]) -> list[Parameter]:
    """Rewrite Mul and Add by lifted numbers per channel; the parameters made, for tensors no longer lifted
    elsewhere. Within rounding."""
    found = []
    for multiplied in list(edit.ops):
        if multiplied.type == "Mul" and not multiplied.domain:
            found += _joined(edit, multiplied, lifted)
    return found


def _joined(edit: Editing, multiplied: Op, lifted: Collection[str]) -> list[Parameter]:
    scale = next((n for n in multiplied.inputs if n in lifted and _per_channel_once(edit, multiplied, n)), "")
    if not scale:
        return []
    value = other_input(multiplied, scale)
    axes = len(edit.shapes[value])
    added = _only_reader(edit, multiplied.outputs[0])
    offset = ""
    if added is not None and added.type == "Add" and not added.domain:
        name = other_input(added, multiplied.outputs[0])
        if (name in edit.tensors or name in lifted) and _per_channel_once(edit, added, name):
            offset = name
    last = added if offset and added is not None else multiplied
    source = edit.producer(value)
    normalisation = source if source is not None and _is_bare_normalisation(edit, source) else None
    if axes < 3 or (normalisation is not None and not offset):
        return []
    parameters = []
    channels = edit.original.tensors[scale].shape[0]
    plain = (channels,)
    if normalisation is not None:
        parameters.append(_taken(edit, scale, plain))
        new = msgspec.structs.replace(
            normalisation,
            inputs=(normalisation.inputs[0], scale, _offset(edit, offset, lifted, parameters)),
            outputs=last.outputs,
        )
        edit.remove(normalisation)
    else:
        parameters.append(_taken(edit, scale, (channels, *[1] * (axes - 1))))
        bias = (_offset(edit, offset, lifted, parameters),) if offset else ()
        attributes = {"group": channels, "kernel_shape": [1] * (axes - 2)}
        new = Op("Conv", (value, scale, *bias), last.outputs, attributes)
    edit.replace(multiplied, new)
    if last is not multiplied:
        edit.remove(last)
    return parameters


def _per_channel_once(edit: Editing, op: Op, name: str) -> bool:
    """Whether a tensor has one number per channel of the value it meets here, and is used nowhere else."""
    if name not in edit.original.tensors or edit.readers(name) != [op] or op.inputs[0] == op.inputs[1]:
        return False
    shape = edit.shapes.get(other_input(op, name))
    return shape is not None and per_channel(edit.original.tensors[name].shape, shape)


def _only_reader(edit: Editing, value: str) -> Op | None:
    readers = edit.readers(value)
    return readers[0] if len(readers) == 1 and value not in edit.output_names() else None


def _is_bare_normalisation(edit: Editing, op: Op) -> bool:
    if op.type != "InstanceNormalization" or op.domain or _only_reader(edit, op.outputs[0]) is None:
        return False
    numbers = [edit.numbers(name) for name in op.inputs[1:]]
    return all(
        array is not None and bool((array == neutral).all())
        for array, neutral in zip(numbers, (1, 0), strict=True)
    )


def _offset(edit: Editing, name: str, lifted: Collection[str], parameters: list[Parameter]) -> str:
    """The offset as one number per channel: a parameter, or a tensor that stays."""
    shape = (edit.original.tensors[name].shape[0],)
    if name in lifted:
        parameters.append(_taken(edit, name, shape))
        return name
    flat = edit.new_name()
    edit.tensors[flat] = np.ascontiguousarray(edit.tensors[name].reshape(shape))
    return flat


def _taken(edit: Editing, name: str, shape: tuple[int, ...]) -> Parameter:
    dtype = edit.original.tensors[name].dtype
    edit.tensors.pop(name, None)
    edit.inputs.append(Port(name, dtype, shape))
    return Parameter(name=name, dtype=dtype, shape=shape, of=name, per_sample=False)

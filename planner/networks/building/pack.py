"""A stage for onnxruntime, optimised ahead of time, so that lifted scales and offsets cost next to nothing.

onnxruntime computes 2D convolutions on channels in blocks, but puts an operator into that form only if its
numbers are constant when it loads the graph; a lifted scale would be computed on the usual form, with two
conversions around it. So the graph is optimised here with made-up constants, which become inputs again
afterwards. (A 7.8 M-parameter U-Net at 256x256, one thread: 2 % slower than with constants, without this 5 to
7 %.)

What comes out is for this size of block only and says so; the graph it was made from stands beside it.
"""

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.engines.onnxruntime import channel_block, runtime_version
from planner.networks.building.blocked import blocked, fits, layout_word
from planner.networks.building.lift import Lifted
from planner.networks.reading.write import model_bytes, to_onnx
from planner.networks.records import LARGE_BYTES, Parameter

OWN_SHARE = 0.02
"""At most this share of the large numbers may be others than the family's (filters with a constant folded
in): they would be kept once more."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Packed:
    """graph: serialised ONNX without its large tensors. layouts: by name, of those that are the stage's; own:
    large tensors that only this graph has; block, runtime: what it is for, see Build."""

    graph: bytes
    layouts: Mapping[str, str]
    own: Arrays
    parameters: tuple[Parameter, ...]
    block: int
    runtime: str


def packed(stage: Lifted, others: Collection[str] = ()) -> Packed | None:
    """The stage optimised for this machine's onnxruntime; None where that gains nothing or does not work.

    stage: made without `across`. others: tensors of which members have their own: a stage in which anything
    was made of their numbers is not packed, for it would be made of the base's. Deterministic
    for one version of onnxruntime on one model of machine.
    """
    block = channel_block()
    scaling = _scaling_parameters(stage)
    if block < 2 or not scaling:
        return None
    made_up = _made_up(scaling)
    model = _optimised(stage, made_up)
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {name: _holders(array, numbers) for name, array in made_up.items()}
    blocks = {name for node in model.graph.node if node.domain.endswith("nchwc") for name in node.input}
    if any(len(names) != 1 for names in found.values()) or not any(n[0] in blocks for n in found.values()):
        return None
    inputs = {names[0]: name for name, names in found.items()}
    layouts, originals = _recognised(stage.tensors, numbers, block)
    own = {n: a for n, a in numbers.items() if _is_large(a) and n not in originals and n not in inputs}
    held = sum(array.nbytes for array in stage.tensors.values())
    if sum(array.nbytes for array in own.values()) > OWN_SHARE * held:
        return None
    names = {**inputs, **originals}
    if not _left_whole(stage, others, model, originals):
        return None
    if len(set(names.values())) < len(names) or (set(names.values()) & (numbers.keys() - names.keys())):
        return None
    shapes = {name: numbers[holder].shape for holder, name in inputs.items()}
    graph = _without(model, names, own, shapes)
    parameters = tuple(
        msgspec.structs.replace(p, shape=shapes[p.name]) if p.name in shapes else p for p in stage.parameters
    )
    return Packed(graph, layouts, own, parameters, block, runtime_version())


def _scaling_parameters(stage: Lifted) -> list[Parameter]:
    """Those that are filter or bias of a convolution with one filter per channel (see join_lifted)."""
    read = {
        name
        for op in stage.structure.ops
        if op.type == "Conv" and op.attributes.get("group", 1) > 1
        for name in op.inputs[1:]
    }
    return [p for p in stage.parameters if p.name in read and not p.per_sample and p.dtype == "float32"]


def _made_up(parameters: list[Parameter]) -> dict[str, NDArray[Any]]:
    """Numbers to know them by again: no two alike, none that an optimiser has rules for."""
    numbers = np.random.default_rng(20)
    return {p.name: numbers.uniform(2, 3, p.shape).astype(np.float32) for p in parameters}


def _optimised(stage: Lifted, made_up: Arrays) -> onnx.ModelProto:
    import onnxruntime as ort

    model = to_onnx(stage.structure, stage.tensors)
    left = [port for port in model.graph.input if port.name not in made_up]
    del model.graph.input[:]
    model.graph.input.extend(left)
    model.graph.initializer.extend(numpy_helper.from_array(array, n) for n, array in sorted(made_up.items()))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _holders(array: NDArray[Any], numbers: Arrays) -> list[str]:
    """Initialisers that hold these numbers, filled up with noughts to a whole block perhaps."""
    flat = array.reshape(-1)
    return [
        name
        for name, other in numbers.items()
        if other.dtype == flat.dtype
        and other.size >= flat.size
        and np.array_equal(other.reshape(-1)[: flat.size], flat)
        and not other.reshape(-1)[flat.size :].any()
    ]


def _recognised(tensors: Arrays, numbers: Arrays, block: int) -> tuple[dict[str, str], dict[str, str]]:
    """Layouts of the stage's large tensors by name, and their names by those in the optimised graph."""
    layouts: dict[str, str] = {}
    originals: dict[str, str] = {}
    large = {name: array for name, array in numbers.items() if _is_large(array)}
    for name, array in tensors.items():
        if not _is_large(array):
            continue
        words = [layout_word(block, kind) for kind in ("both", "out")]
        for layout in ["", *(word for word in words if fits(array.shape, word))]:
            flat = blocked(array, layout).reshape(-1)
            same = [
                n for n, a in large.items() if a.size == flat.size and np.array_equal(a.reshape(-1), flat)
            ]
            if same and same[0] not in originals:
                layouts[name], originals[same[0]] = layout, name
                break
    return layouts, originals


def _left_whole(
    stage: Lifted, others: Collection[str], model: onnx.ModelProto, originals: Mapping[str, str]
) -> bool:
    """Whether each of these tensors is read as often as before, in one form, and no other is its like.

    What is folded away is no longer read, and of two equal tensors nobody knows which is which.
    """
    before = Counter(name for op in stage.structure.ops for name in op.inputs)
    after = Counter(originals.get(name, "") for node in model.graph.node for name in node.input)
    large = {name: array for name, array in stage.tensors.items() if _is_large(array)}

    def alone(name: str) -> bool:
        array = large[name]
        return not any(
            other.size == array.size and np.array_equal(other.reshape(-1), array.reshape(-1))
            for like, other in large.items()
            if like != name
        )

    return all(name in large and before[name] == after[name] and alone(name) for name in others)


def _without(
    model: onnx.ModelProto, names: Mapping[str, str], own: Arrays, inputs: Mapping[str, tuple[int, ...]]
) -> bytes:
    """The model with these names changed, and without the initialisers that are given to it."""
    kept = [t for t in model.graph.initializer if t.name not in names and t.name not in own]
    del model.graph.initializer[:]
    model.graph.initializer.extend(sorted(kept, key=lambda tensor: tensor.name))
    del model.graph.value_info[:]
    for number, node in enumerate(model.graph.node):
        node.name = f"op{number}"
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    for name, shape in sorted(inputs.items()):
        model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape)))
    return model_bytes(model)


def _is_large(array: NDArray[Any]) -> bool:
    return array.nbytes >= LARGE_BYTES

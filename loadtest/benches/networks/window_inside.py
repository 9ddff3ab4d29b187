"""Whether the window before a network is better computed in the network's graph: both ways, in turn.

The planner keeps numeric steps out of networks' graphs: one graph then serves every pipeline with that
network, whatever its window, and what is windowed once serves every network over it. Here is what that costs.
"""

import time
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from loadtest.benches.figures import Findings, figure
from loadtest.benches.rounds import in_turn
from loadtest.benches.say import Say
from models.engines.onnxruntime import OnnxSession
from models.operators.base import KernelContext
from models.operators.edges import value_of
from models.operators.pointwise import Pointwise, PointwiseStep
from models.pipeline_file import ZOO
from models.values import HU, Volume
from planner.resources import StoreResources

NETWORK = "ct-lungs-net"
LOW, HIGH = -1000.0, 400.0
SHAPE = (48, 208, 208)
_BATCH = 4
_ROUNDS, _QUICK_ROUNDS = 9, 3


def run(quick: bool, say: Say) -> Findings:
    """One volume through the bundled network, one thread, its window applied beside the graph and in it."""
    say(f"the window of {NETWORK} beside its graph and in it")
    hu = np.random.default_rng(0).uniform(-1500, 1500, SHAPE).astype(np.float32)
    model = onnx.load(ZOO / f"{NETWORK}.onnx")
    beside = OnnxSession(model.SerializeToString(), {}, threads=1)
    inside = OnnxSession(windowed(model).SerializeToString(), {}, threads=1)
    steps = (
        PointwiseStep(op="clip", numbers=(LOW, HIGH)),
        PointwiseStep(op="normalise", numbers=(LOW, 1 / (HIGH - LOW))),
    )
    window = Pointwise(steps=steps)
    context = KernelContext(resources=StoreResources(Path("never read")))
    volume = Volume(voxels=hu, affine=np.eye(4), unit=HU, source=None)

    def kernel_then_graph(_: int) -> float:
        began = time.perf_counter()
        _in_batches(beside, value_of(window.apply([volume], context), Volume).voxels)
        return time.perf_counter() - began

    def graph_alone(_: int) -> float:
        began = time.perf_counter()
        _in_batches(inside, hu)
        return time.perf_counter() - began

    sides = {"beside": kernel_then_graph, "inside": graph_alone}
    in_turn(sides, 1)
    taken = in_turn(sides, _QUICK_ROUNDS if quick else _ROUNDS)
    return Findings(
        figures={
            f"window and {NETWORK}: kernel, then graph / one graph": figure(
                taken["beside"], taken["inside"], unit="s", better="lower"
            )
        },
        bars=[],
        notes=[
            f"Window: clip and scale of {SHAPE[0]} slices of {SHAPE[1]} x {SHAPE[2]}, by Lightbox's kernel "
            "before the network (what it does) against operators at the head of the network's graph; fp32 "
            "onnxruntime, one thread, in turn."
        ],
    )


def windowed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with clip and scale before its one input."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    defaults = {tensor.name for tensor in made.graph.initializer}
    (port,) = (port for port in made.graph.input if port.name not in defaults)
    network_input = port.name
    numbers = {"low": LOW, "high": HIGH, "scale": 1 / (HIGH - LOW)}
    made.graph.initializer.extend(
        numpy_helper.from_array(np.array(number, np.float32), f"window.{name}")
        for name, number in numbers.items()
    )
    head = [
        helper.make_node("Clip", ["window.hu", "window.low", "window.high"], ["window.clipped"]),
        helper.make_node("Sub", ["window.clipped", "window.low"], ["window.moved"]),
        helper.make_node("Mul", ["window.moved", "window.scale"], [network_input]),
    ]
    nodes = [*head, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    shape = [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim]
    port.CopyFrom(helper.make_tensor_value_info("window.hu", TensorProto.FLOAT, shape))
    return made


def _in_batches(session: OnnxSession, voxels: NDArray[np.float32]) -> None:
    for start in range(0, len(voxels), _BATCH):
        session.run({session.input_names[0]: np.ascontiguousarray(voxels[start : start + _BATCH, None])})

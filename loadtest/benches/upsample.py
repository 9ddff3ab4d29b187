"""Labels on the source grid from 105 classes on a coarser one, against interpolating every class everywhere.

The other side is the fastest full computation we know: onnxruntime's `Resize` for one class after the other
with a running argmax, which holds two volumes and never all classes. nnU-Net 2.8.1 exports the same
43x267x267 to 64x512x512 in 99 s with 9 GB (measured apart, beside its own decoding and network).
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy.ndimage import zoom

from loadtest.benches.figures import Bar, Figure, at_most, figure
from loadtest.benches.say import Say
from models.operators.restore_probability import labels_on_planes
from planner.memory import give_back_freed, peak_bytes_of

Array = NDArray[np.float32]
Shape = tuple[int, int, int]

CLASSES = 105
COARSE, FINE = (43, 267, 267), (64, 512, 512)
QUICK_COARSE, QUICK_FINE = (12, 134, 134), (18, 256, 256)
SECONDS, PEAK_MB = 5.0, 1000.0
"""What was promised for the full size."""
NEAR_TIE = 1e-5
"""Labels may differ where the two largest values are this close, relative to the larger magnitude."""


@dataclass(frozen=True, slots=True)
class Everything:
    """What the full computation gave: labels, and where the two largest values are nearly equal."""

    labels: NDArray[np.uint8]
    near_ties: NDArray[np.bool_]
    seconds: float
    peak_mb: float


def measured(quick: bool, say: Say) -> tuple[dict[str, Figure], list[Bar], list[str]]:
    """Figures, bars and notes of organ-like class values and of noise."""
    coarse, fine = (QUICK_COARSE, QUICK_FINE) if quick else (COARSE, FINE)
    rounds = 1 if quick else 3
    figures: dict[str, Figure] = {}
    bars: list[Bar] = []
    notes = [
        f"{CLASSES} classes, {_size(coarse)} to {_size(fine)}; onnxruntime with two threads, ours with one.",
        "The side measured here is onnxruntime's Resize, class after class, with a running argmax; "
        f"nnU-Net's own export of {_size(COARSE)} to {_size(FINE)}, 99 s and 9 GB, "
        "is quoted and not measured in this run.",
    ]
    for name, make in (("organs", organ_like), ("noise", noise)):
        say(f"making class values like {name}")
        logits = make(coarse)
        say(f"upsampling {name}")
        seconds = [_timed(logits, fine)[1] for _ in range(rounds)]
        give_back_freed()
        labels, peak_bytes = peak_bytes_of(lambda logits=logits: _labels(logits, fine))  # type: ignore[misc]
        say(f"{name}: {min(seconds):.2f} s, {peak_bytes / 1e6:.0f} MB; now every class everywhere")
        full = everything(logits, fine)
        differ = labels != full.labels
        beyond = int(np.count_nonzero(differ & ~full.near_ties))
        figures[f"upsample-argmax of {CLASSES} classes, {name}"] = figure(
            seconds, [full.seconds], unit="s", better="lower"
        )
        figures[f"its peak memory beyond the class values, {name}"] = figure(
            [peak_bytes / 1e6], [full.peak_mb], unit="MB", better="lower"
        )
        notes.append(
            f"{name}: {int(np.count_nonzero(differ))} of {labels.size} labels differ from the full "
            f"computation, {beyond} of them where the two largest values are more than {NEAR_TIE:g} "
            f"apart (relative); {int(np.count_nonzero(full.near_ties))} voxels are that near a tie."
        )
        bars.append(at_most(f"labels that differ but for near ties, {name}", beyond, 0, "voxels"))
        if name == "organs":
            bars.append(at_most("upsample-argmax, organs", _median(seconds), SECONDS, "s"))
            bars.append(at_most("its peak memory, organs", peak_bytes / 1e6, PEAK_MB, "MB"))
    return figures, bars, notes


def organ_like(shape: Shape, classes: int = CLASSES, seed: int = 0) -> Array:
    """float32[classes, *shape]: a background, and an ellipsoid that falls off with distance for each other.

    Every class has a smooth texture and voxel noise of its own, so that none is constant anywhere.
    """
    rng = np.random.default_rng(seed)
    size = np.array(shape)
    slices, rows, columns = np.ogrid[: shape[0], : shape[1], : shape[2]]
    logits = np.empty((classes, *shape), np.float32)
    for number, values in enumerate(logits):
        few = rng.normal(0, 1, [max(side // 12, 3) for side in shape]).astype(np.float32)
        values[...] = zoom(few, [side / n for side, n in zip(shape, few.shape, strict=True)], order=1)
        values += 0.15 * rng.standard_normal(shape, dtype=np.float32)
        values += 2
        if number:
            centre = rng.uniform(0.1, 0.9, 3) * size
            radius = rng.uniform(0.05, 0.16) * rng.uniform(0.7, 1.4, 3) * size
            parts = zip((slices, rows, columns), centre, radius, strict=True)
            distance = np.sqrt(sum(((at - middle) / reach) ** 2 for at, middle, reach in parts))
            values += np.clip((1 - distance) * radius.mean() * 0.8, -8, 8).astype(np.float32)
    return logits


def noise(shape: Shape, classes: int = CLASSES, seed: int = 0) -> Array:
    """float32[classes, *shape], standard normal: the worst case, any class may be the largest anywhere."""
    return np.random.default_rng(seed).standard_normal((classes, *shape), dtype=np.float32)


def everything(logits: Array, fine: Shape) -> Everything:
    """Every class at full resolution, one after the other, by onnxruntime with two threads."""
    session = _resize(fine)
    give_back_freed()

    def run() -> tuple[NDArray[np.uint8], Array, float]:
        started = time.perf_counter()
        best = session.run(None, {"x": logits[0][None, None]})[0][0, 0]
        labels = np.zeros(fine, np.uint8)
        for number in range(1, len(logits)):
            values = session.run(None, {"x": logits[number][None, None]})[0][0, 0]
            np.copyto(labels, np.uint8(number), where=values > best)
            np.maximum(best, values, out=best)
        return labels, best, time.perf_counter() - started

    (labels, best, seconds), peak_bytes = peak_bytes_of(run)
    second = np.full(fine, -np.inf, np.float32)  # apart from the time: only the comparison needs it
    for number in range(len(logits)):
        values = session.run(None, {"x": logits[number][None, None]})[0][0, 0]
        np.maximum(second, values, out=second, where=labels != number)
    near = best - second <= NEAR_TIE * np.maximum(np.abs(best), np.abs(second))
    return Everything(labels, near, seconds, peak_bytes / 1e6)


def _resize(fine: Shape) -> Any:
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [5], [1, 1, *fine])
    node = helper.make_node(
        "Resize",
        ["x", "", "", "sizes"],
        ["y"],
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, None, None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, *fine])],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.enable_cpu_mem_arena = False
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _labels(logits: Array, fine: Shape) -> NDArray[np.uint8]:
    """Voxel centres of the fine grid over the same box of space: what `restore_probability` is asked for."""
    steps = [side / target for side, target in zip(logits.shape[1:], fine, strict=True)]
    starts = [(step - 1) / 2 for step in steps]
    planes = []
    for z in range(fine[0]):
        across = [0, 0, starts[0] + steps[0] * z]
        planes.append(np.array([across, [steps[1], 0, starts[1]], [0, steps[2], starts[2]], [0, 0, 1]]))
    return labels_on_planes(logits, planes, fine[1:], 0.5)


def _timed(logits: Array, fine: Shape) -> tuple[NDArray[np.uint8], float]:
    started = time.perf_counter()
    labels = _labels(logits, fine)
    return labels, time.perf_counter() - started


def _median(values: list[float]) -> float:
    return float(np.median(values))


def _size(shape: Shape) -> str:
    return "x".join(str(side) for side in shape)

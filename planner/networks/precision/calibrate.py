"""Calibration: what flows through a network on real inputs, as ranges, samples and inputs of each filter."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.engines.onnxruntime import OnnxSession
from planner.networks.building.lift import Lifted
from planner.networks.precision.cases import Feed
from planner.networks.precision.layers import Layer
from planner.networks.precision.rounding import MOST_COLUMNS
from planner.networks.reading.write import model_bytes, to_onnx
from planner.networks.structure import Port

Method: TypeAlias = Literal["minmax", "percentile", "least error"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "least error")

_SAMPLES = 100_000
"""Values kept of each activation and piece, besides its true ends."""
_MOST_PATCHES, _FEWEST_PATCHES = 4_000, 1_000
"""Inputs of a filter kept of each piece: three times as many as it has columns, within these ends. (The real
networks' filters have 27 to 1152 columns; the work of comparing them grows with the square.)"""
_TAILS = (0.0, 0.001, 0.01, 0.1, 0.5)
"""Percent cut off at each end, of which `least error` takes the best."""


@dataclass(frozen=True, slots=True)
class Range:
    """Ends that uint8 is spread over; 0 lies inside."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        return np.float32(max((self.high - self.low) / 255, 1e-12))

    @property
    def zero_point(self) -> int:
        return int(np.clip(round(-self.low / float(self.scale)), 0, 255))

    def applied(self, values: NDArray[Any]) -> NDArray[Any]:
        """What is left of float values after rounding to uint8 and back."""
        steps = np.clip(np.rint(values / self.scale) + self.zero_point, 0, 255)
        return np.asarray((steps - self.zero_point) * self.scale, values.dtype)


@dataclass(slots=True)
class Seen:
    """Of one value: ends and sampled numbers."""

    low: float
    high: float
    sample: NDArray[np.float32]

    def range(self, method: Method) -> Range:
        """By `minmax` the true ends; by `percentile` 0.01 % is cut off at each end; by `least error` the cut
        with the least mean square error of the rounded sample."""
        if method == "minmax":
            return _range(self.low, self.high)
        if method == "percentile":
            return self._cut(0.01)
        ranges = [_range(self.low, self.high), *(self._cut(tail) for tail in _TAILS[1:])]
        errors = [float(np.square(r.applied(self.sample) - self.sample).mean()) for r in ranges]
        return ranges[int(np.argmin(errors))]

    def _cut(self, tail: float) -> Range:
        low, high = np.percentile(self.sample, (tail, 100 - tail))
        return _range(float(low), float(high))


@dataclass(frozen=True, slots=True)
class Calibration:
    """values: by name, what activations hold. patches: by layer, float32[n, inputs of one output channel],
    in the order of the filter's axes; none where the layer's shape is not supported. places: multiplying
    places of each layer in the first piece."""

    values: Mapping[str, Seen]
    patches: Mapping[str, NDArray[np.float32]]
    places: Mapping[str, int]


def tapped(stage: Lifted, names: Collection[str], feeds: Sequence[Feed]) -> list[dict[str, NDArray[Any]]]:
    """The named values (inputs too) in each run, by fp32 onnxruntime."""
    own = {port.name for port in stage.structure.inputs}
    have = {port.name for port in stage.structure.outputs}
    extra = tuple(name for name in dict.fromkeys(names) if name not in own | have)
    structure = msgspec.structs.replace(
        stage.structure, outputs=(*stage.structure.outputs, *(Port(name, "float32", ()) for name in extra))
    )
    model = to_onnx(structure, stage.tensors)
    for output in model.graph.output[len(have) :]:
        output.type.tensor_type.ClearField("shape")
    session = OnnxSession(model_bytes(model), threads=len(os.sched_getaffinity(0)))
    names_out = [port.name for port in structure.outputs]
    return [{**feed, **dict(zip(names_out, session.run(feed), strict=True))} for feed in feeds]


def calibrate(
    stage: Lifted,
    layers: Sequence[Layer],
    names: Collection[str],
    feeds: Sequence[Feed],
    progress: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Run the pieces and look at `names` and at the layers' inputs. Deterministic."""
    draw = np.random.default_rng(0)
    values: dict[str, Seen] = {}
    patches: dict[str, list[NDArray[np.float32]]] = {}
    places: dict[str, int] = {}
    every = [*names, *(layer.source for layer in layers), *(layer.conv.outputs[0] for layer in layers)]
    for number, feed in enumerate(feeds, 1):
        progress(f"calibrating on piece {number} of {len(feeds)}")
        (run,) = tapped(stage, every, [feed])
        for name in dict.fromkeys([*names, *(layer.source for layer in layers)]):
            _see(values, name, run[name], draw)
        for layer in layers:
            found = _patches(layer, run[layer.source], draw)
            if found is not None:
                patches.setdefault(layer.name, []).append(found)
            shape = run[layer.conv.outputs[0] if layer.conv.type == "Conv" else layer.source].shape
            places.setdefault(layer.name, int(prod(shape[2:])))
    return Calibration(values, {name: np.concatenate(found) for name, found in patches.items()}, places)


def _see(values: dict[str, Seen], name: str, array: NDArray[Any], draw: np.random.Generator) -> None:
    flat = array.reshape(-1)
    sample = flat if len(flat) <= _SAMPLES else flat[draw.integers(0, len(flat), _SAMPLES)]
    low, high = float(flat.min()), float(flat.max())
    if name in values:
        seen = values[name]
        low, high = min(low, seen.low), max(high, seen.high)
        sample = np.concatenate([seen.sample, sample])
    values[name] = Seen(low, high, np.asarray(sample, np.float32))


def _patches(layer: Layer, x: NDArray[Any], draw: np.random.Generator) -> NDArray[np.float32] | None:
    """Inputs of the filter at random output places: float32[n, in * kernel]. None for other than a Conv
    without groups and with explicit padding."""
    attributes, axes = layer.conv.attributes, x.ndim - 2
    plain = attributes.get("group", 1) == 1 and attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if layer.conv.type != "Conv" or not plain:
        return None
    kernel = layer.filter.shape[2:]
    columns = layer.filter.shape[1] * prod(kernel)
    if columns > MOST_COLUMNS:
        return None
    count = min(max(3 * columns, _FEWEST_PATCHES), _MOST_PATCHES)
    pads = attributes.get("pads", [0] * 2 * axes)
    steps = attributes.get("strides", [1] * axes)
    gaps = attributes.get("dilations", [1] * axes)
    padded = np.pad(x, [(0, 0), (0, 0), *((pads[a], pads[a + axes]) for a in range(axes))])
    item = draw.integers(0, len(x), count)
    corners = [
        draw.integers(0, (padded.shape[2 + a] - gaps[a] * (kernel[a] - 1) - 1) // steps[a] + 1, count)
        * steps[a]
        for a in range(axes)
    ]
    gathered = [
        padded[(item, slice(None), *(corners[a] + offset[a] * gaps[a] for a in range(axes)))]
        for offset in np.ndindex(*kernel)
    ]  # each [n, in]
    return np.stack(gathered, axis=2).reshape(count, -1).astype(np.float32)


def _range(low: float, high: float) -> Range:
    return Range(min(low, 0.0), max(high, 0.0))

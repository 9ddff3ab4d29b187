"""Does the canonical form of a network compute what the author's file does? Outputs decide.

The passes that bring a network into canonical form are many; should one of them be wrong for some network,
that network stays closed, and runs as its author wrote it. Both run in a process of their own, with bounds on
memory and time, as nobody knows yet what a stranger's network does.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from models.engines.assembly import with_external_initialisers
from models.engines.onnxruntime import OnnxSession
from models.errors import KernelError
from planner.networks.apart import NotBorne, apart
from planner.networks.apart_child import out_of_memory
from planner.networks.building.build import plain
from planner.networks.errors import NetworkRefused
from planner.networks.reading.probing import SIDES, drawn, shapes
from planner.networks.structure import Opened

Array = NDArray[Any]
Inputs = Mapping[str, Array]

TOLERANCE = 1e-5
"""Of any number of an output, relative to the largest magnitude of that output."""
OF_NOISE = 4.0
"""A guess: how many times what the author's file differs from itself is still rounding. It does so run
optimised or not, and on inputs that differ in the last place."""
TELLING_NOISE, MOST_NOISE = 1e-3, 1e-2
"""Guesses. A run in which the file differs more from itself than the first does not count as a comparison,
as its outputs are hardly numbers at all (a real lung network on small inputs: 3e-3); more than the second is
never allowed for."""
WHOLE_SHARE = 1e-3
"""Of the whole numbers of an output (classes, masks): so many may lie on an edge that rounding decides."""

_RUNS = 4
_ENOUGH_S = 60.0
"""Once comparing took so long, there are no more runs; one that tells is enough then."""
_FEW_RUNS_FROM = 1 << 22
"""Numbers fed in one run; networks that take so many at once are compared on one input."""
_MOST_FED = 1 << 28
_FOLDER = "session.model_external_initializers_file_folder_path"

_TRIES: tuple[tuple[int, tuple[int, ...], float, float], ...] = (
    (1, (64, 96, 32), 1.0, 0.0),
    (2, (32,), 1.0, 0.0),
    (1, (96, 64, 128), 100.0, 0.0),
    (1, (64,), 400.0, 900.0),
    *((1, (side,), 1.0, 0.0) for side in SIDES),
)
"""Batch, sides, and the spread and mean of the numbers. Sides that differ and a batch of two come first, as
passes that mistake one axis for another show there only; networks that do not take these say so. CT values
are among them, as a network made for those may give next to nothing on others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Why a canonical form is not taken for the network that its author wrote.

    runs: inputs that were compared. largest: difference found, allowed: what would have passed; both relative
    to the largest magnitude of an output. why: in words, where it is no matter of numbers.
    """

    runs: int
    largest: float = 0.0
    allowed: float = 0.0
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return self.why
        return f"outputs differ by {self.largest:.2g} of the largest, where {self.allowed:.2g} is rounding"


def faithful(
    path_or_bytes: Path | bytes, opened: Opened, overrides: Mapping[str, Array] | None = None
) -> Difference | None:
    """Compare outputs of the author's file and of its canonical form (onnxruntime, fp32) on seeded inputs.

    overrides: as given to `open_network`. Returns None if they are the same within rounding. A network that
    its author's file cannot run on any input tried, or only without one finite output, is not shown to be
    faithful, so it counts as different.
    Raises: OSError, if the file has gone; NetworkRefused with too-slow, too-much-memory or crashes, where
    that is what comes of running it.
    """
    path = path_or_bytes.absolute() if isinstance(path_or_bytes, Path) else path_or_bytes
    try:
        return apart(_compared, path, opened, dict(overrides or {}))
    except NotBorne as failed:
        file = path if isinstance(path, Path) else "network"
        raise NetworkRefused(file, failed.reason, f"it was run once, and {failed}") from failed


def _compared(
    path_or_bytes: Path | bytes, opened: Opened, overrides: Mapping[str, Array]
) -> Difference | None:
    """Raises: MemoryError if that is why the file does not run; OSError."""
    began = time.monotonic()
    author = _Author(path_or_bytes, overrides)
    try:
        expected = author.session()
    except KernelError as error:
        if out_of_memory(error):
            raise MemoryError from error
        return Difference(runs=0, why=f"the file as it is does not run: {error}")
    try:
        graph = plain(opened.structure, opened.tensors)
        ours = OnnxSession(graph.graph, graph.large, threads=_cores())
    except (KernelError, LookupError, ValueError) as error:
        return Difference(runs=0, why=f"the canonical form cannot be built: {error}")
    runs = 0
    for feeds, wanted in islice(_runs(expected, opened), _RUNS):
        try:
            outputs = ours.run({f"x{place}": feeds[name] for place, name in enumerate(opened.input_names)})
        except KernelError as error:
            return Difference(runs=runs, why=f"the canonical form does not take what the file does: {error}")
        each = [difference(output, other) for output, other in zip(outputs, wanted, strict=True)]
        noise = 0.0
        if max(each) > TOLERANCE:  # few networks get here
            nudged = expected.run({name: _nudged(array) for name, array in feeds.items()})
            others = (author.unoptimised(feeds, wanted), nudged)
            noise = max(difference(a, b) for other in others for a, b in zip(other, wanted, strict=True))
            allowed = max(TOLERANCE, OF_NOISE * min(noise, MOST_NOISE))
            if max(each) > allowed:
                return Difference(runs=runs + 1, largest=max(each), allowed=allowed)
        runs += noise <= TELLING_NOISE
        if sum(array.size for array in feeds.values()) >= _FEW_RUNS_FROM:
            break
        if runs and time.monotonic() - began > _ENOUGH_S:
            break
    return (
        None if runs else Difference(runs=0, why="no input tried gives outputs that are more than rounding")
    )


def difference(output: Array, wanted: Array) -> float:
    """Relative to the largest magnitude of `wanted`; infinite where type, shape or what is no number differ.

    Whole numbers count by how many of them differ, scaled so that WHOLE_SHARE of them is TOLERANCE.
    """
    if output.dtype != wanted.dtype or output.shape != wanted.shape:
        return float("inf")
    if wanted.dtype.kind != "f":
        return float(np.mean(output != wanted)) * TOLERANCE / WHOLE_SHARE if wanted.size else 0.0
    numbers = np.isfinite(wanted)
    if not np.array_equal(output[~numbers], wanted[~numbers], equal_nan=True):
        return float("inf")
    if not np.isfinite(output[numbers]).all():
        return float("inf")
    if not numbers.any():
        return 0.0
    exact = wanted[numbers].astype(np.float64)
    apart = float(np.abs(output[numbers] - exact).max())
    largest = max(float(np.abs(exact).max()), float(np.finfo(wanted.dtype).tiny))  # below, digits are lost
    return apart / largest


class _Author:
    """The file as its author wrote it, with overrides in place of initialisers of their names."""

    def __init__(self, path_or_bytes: Path | bytes, overrides: Mapping[str, Array]) -> None:
        self._hints: dict[str, str] = {}
        if isinstance(path_or_bytes, Path):
            self._hints[_FOLDER] = str(path_or_bytes.resolve().parent)
            self._graph = path_or_bytes.read_bytes()
        else:
            self._graph = path_or_bytes
        self._overrides = dict(overrides)
        if overrides:
            self._graph = _without(self._graph, overrides)

    def session(self) -> OnnxSession:
        """Raises: KernelError."""
        return OnnxSession(self._graph, self._overrides, threads=_cores(), hints=self._hints)

    def unoptimised(self, feeds: Inputs, otherwise: Sequence[Array]) -> Sequence[Array]:
        """Outputs in graph order of the graph as it stands, operator by operator.

        otherwise: given for a file that runs optimised only, as some do.
        """
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = _cores()
        options.log_severity_level = 4
        for key, value in self._hints.items():
            options.add_session_config_entry(key, value)
        bound = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in self._overrides.items()}
        options.add_external_initializers(list(bound), list(bound.values()))
        graph = with_external_initialisers(self._graph, self._overrides)
        try:
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            outputs: list[Array] = session.run(None, dict(feeds))
        except Exception:  # onnxruntime's own errors have no common root but this
            return otherwise
        return outputs


def _without(graph: bytes, names: Mapping[str, Array]) -> bytes:
    """The model without these initialisers, and without inputs of their names that were defaults for."""
    model = onnx.ModelProto.FromString(graph)
    for field in (model.graph.initializer, model.graph.input):
        kept = [item for item in field if item.name not in names]
        del field[:]
        field.extend(kept)
    data: bytes = model.SerializeToString()
    return data


def _runs(session: OnnxSession, opened: Opened) -> Iterator[tuple[Inputs, Sequence[Array]]]:
    """Inputs by the author's names, with what the author's file makes of them.

    Raises: MemoryError if there is no size that it could be run on, and memory is why.
    """
    ran, too_large = False, None
    tried: set[tuple[Any, ...]] = set()
    for number, (batch, sides, spread, mean) in enumerate(_TRIES):
        sized = shapes(opened.structure.inputs, sides, batch=batch)
        key = (sized, spread)
        if key in tried or sum(map(prod, sized)) > _MOST_FED:
            continue
        tried.add(key)
        random = np.random.default_rng(number)
        feeds = {
            name: _spread(drawn(random, port.dtype, shape), spread, mean)
            for name, port, shape in zip(opened.input_names, opened.structure.inputs, sized, strict=True)
        }
        try:
            outputs = session.run(feeds)
        except KernelError as error:  # a size that this network does not take, or we do not
            too_large = error if out_of_memory(error) else too_large
            continue
        ran = True
        if all(_tells(output) for output in outputs):
            yield feeds, outputs
    if too_large is not None and not ran:
        raise MemoryError from too_large


def _spread(numbers: Array, spread: float, mean: float) -> Array:
    if numbers.dtype.kind != "f":
        return numbers
    return (numbers * spread + mean).astype(numbers.dtype)


def _nudged(numbers: Array) -> Array:
    """Every second number by one in its last place."""
    if numbers.dtype.kind != "f":
        return numbers
    result = numbers.copy()
    result.reshape(-1)[::2] = np.nextafter(result.reshape(-1)[::2], np.array(np.inf, numbers.dtype))
    return result


def _tells(output: Array) -> bool:
    """Whether there is a number in it to compare."""
    return bool(output.size) and (output.dtype.kind != "f" or bool(np.isfinite(output).any()))


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)), 4)

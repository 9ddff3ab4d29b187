"""Run an ONNX graph with onnxruntime on the CPU: nothing else.

Threads are explicit and do not spin (fifty private pools that spin cost 64 % of the rate), and every session
of a process shares one arena (19 MB a session after one run of a 1.9 M-parameter U-Net, against 68 apart).
Large tensors are read from where they lie, and no memory pattern is kept: it holds a second copy of all
activations from the second run on (a 7.8 M-parameter U-Net at 256x256 takes 130 MB, with it 174, and with its
tensors in the graph 231).
"""

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.engines.assembly import (
    ELEMENT_TYPES,
    let_pages_go,
    message,
    number,
    with_external_initialisers,
)
from models.errors import KernelError

_SESSION_CREATION = threading.Lock()
"""Concurrent creation has races inside onnxruntime (its issues 27063 and 27089); runs need no lock."""


class OnnxSession:
    """One compiled graph. Threads may share it; `run` lets other Python threads run.

    Equal inputs give equal bytes, whatever else runs.
    """

    def __init__(
        self,
        graph: bytes | memoryview,
        tensors: Mapping[str, NDArray[Any]] | None = None,
        *,
        threads: int = 1,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        """Compile.

        Args:
            graph: a serialised ONNX model.
            tensors: initialisers that it lacks, by name; may be mapped from files and read-only.
            threads: of one run.
            hints: entries of onnxruntime's session configuration.

        Raises: KernelError if it is no graph that this onnxruntime can run.
        """
        tensors = {name: np.ascontiguousarray(array) for name, array in (tensors or {}).items()}
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # what goes wrong comes as an exception
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.use_env_allocators", "1")
        for key, value in (hints or {}).items():
            options.add_session_config_entry(key, value)
        self._bound = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in tensors.items()}
        """onnxruntime reads those in place that it does not pack in a form of its own."""
        with _SESSION_CREATION:
            _share_one_arena()
            try:
                options.add_external_initializers(list(self._bound), list(self._bound.values()))
                self._session = ort.InferenceSession(
                    with_external_initialisers(bytes(graph), tensors),
                    sess_options=options,
                    providers=["CPUExecutionProvider"],
                )
            except Exception as error:  # onnxruntime's own errors have no common root but this
                raise KernelError(f"onnxruntime cannot load this graph: {_first_line(error)}") from error
        let_pages_go(tensors)
        self.input_names: tuple[str, ...] = tuple(i.name for i in self._session.get_inputs())
        """Inputs that every run must be given, in graph order."""
        self.default_names: frozenset[str] = frozenset(
            i.name for i in self._session.get_overridable_initializers()
        )
        """Inputs that keep their values in the graph unless a run gives others."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Outputs in graph order. Raises: KernelError for inputs the graph does not take."""
        unknown = inputs.keys() - self.default_names - set(self.input_names)
        if unknown:
            raise KernelError(f"the graph has no input {', '.join(sorted(unknown))}")
        missing = set(self.input_names) - inputs.keys()
        if missing:
            raise KernelError(f"the graph was not given its input {', '.join(sorted(missing))}")
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(None, dict(inputs))
        except Exception as error:  # as above: no common root
            raise KernelError(f"onnxruntime failed on this graph: {_first_line(error)}") from error
        return outputs


def runtime_version() -> str:
    """Of the onnxruntime that is loaded."""
    return str(ort.__version__)


@cache
def channel_block() -> int:
    """How many channels this onnxruntime computes side by side in 2D convolutions; 1: it has no such form."""
    nchwc = b"com.microsoft.nchwc"
    sizes = b"".join(message(1, number(1, size)) for size in (1, 4, 1, 1))
    node = message(1, b"x") + message(2, b"y") + message(4, b"ReorderInput") + message(7, nchwc)
    typed = message(2, message(1, number(1, ELEMENT_TYPES["float32"]) + message(2, sizes)))
    graph = message(1, node) + message(2, b"g") + message(11, message(1, b"x") + typed)
    graph += message(12, message(1, b"y"))
    opsets = message(8, number(2, 17)) + message(8, message(1, nchwc) + number(2, 1))
    try:
        reordered = OnnxSession(number(1, 8) + opsets + message(7, graph)).run(
            {"x": np.zeros((1, 4, 1, 1), np.float32)}
        )
    except KernelError:
        return 1
    return int(reordered[0].shape[1])


@cache
def _share_one_arena() -> None:
    """Register the arena that all sessions allocate from; onnxruntime keeps one per process."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    as_requested = 1  # arena_extend_strategy: grow by what is asked for, not to the next power of two
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": as_requested}))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

"""Run an ONNX graph with onnxruntime on the CPU: nothing else.

Threads are explicit and do not spin (fifty private pools that spin cost 64 % of the rate), and every session
of a process shares one arena (19 MB a session after one run of a 1.9 M-parameter U-Net, against 68 apart).
"""

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import KernelError

_SESSION_CREATION = threading.Lock()
"""Concurrent creation has races inside onnxruntime (its issues 27063 and 27089); runs need no lock."""


class OnnxSession:
    """One compiled graph. Threads may share it; `run` lets other Python threads run."""

    def __init__(self, graph: bytes | memoryview, *, threads: int = 1) -> None:
        """Compile. graph: a serialised ONNX model; threads: of one run.

        Raises: KernelError if it is no graph that this onnxruntime can run.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # what goes wrong comes as an exception
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.use_env_allocators", "1")
        with _SESSION_CREATION:
            _share_one_arena()
            try:
                self._session = ort.InferenceSession(
                    bytes(graph), sess_options=options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's own errors have no common root but this
                raise KernelError(f"onnxruntime cannot load this graph: {_first_line(error)}") from error
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
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(None, dict(inputs))
        except Exception as error:  # as above: no common root
            raise KernelError(f"onnxruntime failed on this graph: {_first_line(error)}") from error
        return outputs


@cache
def _share_one_arena() -> None:
    """Register the arena that all sessions allocate from; onnxruntime keeps one per process."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    as_requested = 1  # arena_extend_strategy: grow by what is asked for, not to the next power of two
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": as_requested}))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

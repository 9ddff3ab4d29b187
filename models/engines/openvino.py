"""Run an ONNX graph with OpenVINO on the CPU: an optional engine, imported by whoever chose it.

A graph is compiled for the exact shapes it is fed: with free shapes a per-channel factor that is an input
cannot be fused, which costs a quarter of the time. Compiling a 7.8 M-parameter U-Net for another shape takes
0.2 s and 45 MB (bf16: 27 MB), so the last few shapes are kept, each with as many copies as threads ran it at
once.
"""

import ctypes
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.engines.assembly import let_pages_go, with_inputs
from models.errors import KernelError

SHAPES = 3
"""Sets of input shapes that a session stays compiled for."""

Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(slots=True)
class _Copies:
    """Compiled copies for one set of shapes. A copy runs once at a time, in the thread that asks, and so at
    that thread's priority; two streams of one copy would run in threads of OpenVINO's own."""

    idle: list[Any] = field(default_factory=list)
    made: int = 0


class OpenvinoSession:
    """One graph. Threads may share it; `run` lets other Python threads run.

    Equal inputs give equal bytes on one machine, bf16 included.
    """

    def __init__(
        self,
        graph: bytes | memoryview,
        tensors: Mapping[str, NDArray[Any]] | None = None,
        *,
        threads: int = 1,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        """Read; what is fed first is compiled for first.

        Args:
            graph: a serialised ONNX model.
            tensors: initialisers that it lacks, by name; may be mapped from files and read-only.
            threads: of one run.
            hints: OpenVINO's properties, as INFERENCE_PRECISION_HINT: bf16.

        Raises: KernelError if it is no graph that OpenVINO reads; ImportError where it is not installed.
        """
        self._tensors = {name: np.ascontiguousarray(array) for name, array in (tensors or {}).items()}
        self._graph = with_inputs(bytes(graph), self._tensors)
        self._properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",  # each copy would be pinned to the same core
            "CACHE_DIR": "",
            "INFERENCE_PRECISION_HINT": "f32",
            **(hints or {}),
        }
        self._most_copies = max(1, (os.cpu_count() or 1) // threads)
        self._copies: OrderedDict[Shapes, _Copies] = OrderedDict()
        self._changed = threading.Condition()
        self._compiling = threading.Lock()
        ports = self._model().inputs
        self.input_names: tuple[str, ...] = tuple(port.get_any_name() for port in ports)
        """Inputs that every run must be given, in graph order."""
        self._dtypes = {port.get_any_name(): port.get_element_type().to_dtype() for port in ports}
        let_pages_go(self._tensors)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Outputs in graph order. Raises: KernelError for inputs the graph does not take."""
        unknown = inputs.keys() - set(self.input_names)
        if unknown:
            raise KernelError(f"the graph has no input {', '.join(sorted(unknown))}")
        missing = set(self.input_names) - inputs.keys()
        if missing:
            raise KernelError(f"the graph was not given its input {', '.join(sorted(missing))}")
        for name, array in inputs.items():
            if array.dtype != self._dtypes[name]:
                raise KernelError(f"input {name} is {array.dtype}, not {np.dtype(self._dtypes[name])}")
        shapes = tuple((name, inputs[name].shape) for name in self.input_names)
        copies, request = self._take(shapes)
        try:
            request.infer(dict(inputs))
            outputs = request.model_outputs
            return [request.get_output_tensor(place).data.copy() for place in range(len(outputs))]
        except Exception as error:  # OpenVINO's errors have no common root but this
            raise KernelError(f"OpenVINO failed on this graph: {_cause(error)}") from error
        finally:
            self._give_back(copies, request)

    def _take(self, shapes: Shapes) -> tuple[_Copies, Any]:
        """A compiled copy for these shapes that nobody else runs."""
        with self._changed:
            copies = self._copies.setdefault(shapes, _Copies())
            self._copies.move_to_end(shapes)
            while not copies.idle and copies.made >= self._most_copies:
                self._changed.wait()
            if copies.idle:
                return copies, copies.idle.pop()
            copies.made += 1
        try:
            return copies, self._compiled(shapes)
        except BaseException:  # whatever it was, there is no such copy, and others may be waiting
            with self._changed:
                copies.made -= 1
                self._changed.notify_all()
            raise

    def _give_back(self, copies: _Copies, request: Any) -> None:
        with self._changed:
            copies.idle.append(request)
            for other in list(self._copies)[: max(0, len(self._copies) - SHAPES)]:
                if len(self._copies[other].idle) == self._copies[other].made:  # nobody runs it
                    del self._copies[other]
            self._changed.notify_all()

    def _compiled(self, shapes: Shapes) -> Any:
        with self._compiling:
            try:
                model = self._model()
                model.reshape({name: list(shape) for name, shape in shapes})
                return _core().compile_model(model, "CPU", self._properties).create_infer_request()
            except KernelError:
                raise
            except Exception as error:  # as above: no common root
                raise KernelError(f"OpenVINO cannot compile this graph: {_cause(error)}") from error
            finally:
                let_pages_go(self._tensors)

    def _model(self) -> Any:
        """The graph with its tensors in place, as inputs that became constants over their memory."""
        core = _core()
        import openvino

        try:
            model = core.read_model(self._graph)
            ports = {port.get_any_name(): port for port in model.inputs}
            for name, array in self._tensors.items():
                constant = openvino.op.Constant(_writeable(array), shared_memory=True)
                parameter = ports[name].get_node()
                ports[name].replace(constant.output(0))
                model.remove_parameter(parameter)
        except Exception as error:  # as above: no common root
            raise KernelError(f"OpenVINO cannot read this graph: {_cause(error)}") from error
        return model


def capabilities() -> frozenset[str]:
    """What this CPU does faster than by emulation, in OpenVINO's words: FP32, BF16, INT8 ..."""
    return frozenset(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@cache
def _core() -> Any:
    """OpenVINO, one per process. Its converter, which is not used, would load a module that reports use."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino.Core()


def _writeable(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory as an array that claims to be writeable, as OpenVINO asks of memory that it only reads.
    The caller keeps `array`."""
    memory = (ctypes.c_byte * array.nbytes).from_address(array.ctypes.data)
    return np.ctypeslib.as_array(memory).view(array.dtype).reshape(array.shape)


def _cause(error: Exception) -> str:
    """The last line says what is wrong; those before it say where in OpenVINO that was found."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

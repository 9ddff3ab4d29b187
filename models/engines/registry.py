"""The engines by name, each imported where it is first used."""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray

from models.errors import KernelError
from models.operators.base import NetworkSession

ENGINES = ("onnxruntime", "openvino")


class EngineBroken(KernelError):
    """The engine's package is here, but cannot be imported."""


_broken: set[str] = set()
"""Engines that could not be imported: not tried again in this process."""


def engine_available(engine: str) -> bool:
    """Whether the engine's package is installed here, and was not found broken. Imports nothing."""
    return engine in ENGINES and engine not in _broken and _installed(engine)


def open_session(
    engine: str,
    graph: bytes | memoryview,
    tensors: Mapping[str, NDArray[Any]],
    threads: int,
    hints: Mapping[str, str],
) -> NetworkSession:
    """A compiled graph, see `OnnxSession` and `OpenvinoSession`.

    tensors: initialisers that the graph lacks; threads: of one run; hints: in the engine's own words.
    Raises: KernelError, for a graph that the engine cannot run; EngineBroken, where it cannot be imported.
    """
    if engine not in ENGINES:
        raise ValueError(f"no engine is called {engine}")
    try:
        if engine == "onnxruntime":
            from models.engines.onnxruntime import OnnxSession

            return OnnxSession(graph, tensors, threads=threads, hints=hints)
        from models.engines.openvino import OpenvinoSession

        return OpenvinoSession(graph, tensors, threads=threads, hints=hints)
    except ImportError as error:
        _broken.add(engine)
        raise EngineBroken(f"{engine} cannot be imported: {error}") from error


@cache
def _installed(engine: str) -> bool:
    return find_spec(engine) is not None

"""What kernels may reach, out of the store: networks ready to run and parameter sets, each loaded once."""

import io
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.operators.base import NetworkSession
from object_store.digest import Digest
from object_store.local import LocalStore


class StoreResources:
    """Implements models.operators.base.Resources; threads may share one.

    A session is built by whoever asks first and lives as long as this object. threads: of one network run.
    What is loaded is verified: a network with a damaged bit would compute, and nobody would know.
    """

    def __init__(self, store: Path, *, threads: int = 1) -> None:
        self._objects = LocalStore(store, verify_on_read=True)
        self._threads = threads
        self._turn = threading.Lock()
        self._building: dict[str, threading.Lock] = {}
        self._sessions: dict[str, NetworkSession] = {}
        self._parameters: dict[str, Mapping[str, NDArray[np.float32]]] = {}

    def network(self, graph: str) -> NetworkSession:
        """The compiled graph whose digest this is. Raises: StoreError, KernelError (no valid graph)."""
        with self._lock_of(graph):
            if graph not in self._sessions:
                self._sessions[graph] = self._build(graph)
            return self._sessions[graph]

    def parameters(self, digest: str) -> Mapping[str, NDArray[np.float32]]:
        """The arrays of a stored .npz by name, read-only."""
        with self._lock_of(digest):
            if digest not in self._parameters:
                self._parameters[digest] = read_arrays(self._objects.map(Digest.parse(digest)))
            return self._parameters[digest]

    def warm_up(self, operators: Sequence[str], networks: Sequence[str]) -> None:
        """Import these operators and build these networks, so that the first run does not wait for them."""
        from models.operators.registry import OPERATORS

        for word in operators:
            for module in OPERATORS[word].imports:
                import_module(module)
        for graph in networks:
            self.network(graph)

    def _build(self, graph: str) -> NetworkSession:
        from models.engines.onnxruntime import OnnxSession

        return OnnxSession(self._objects.map(Digest.parse(graph)), threads=self._threads)

    def _lock_of(self, digest: str) -> threading.Lock:
        """Two threads may build two networks at once, but not one network twice."""
        with self._turn:
            return self._building.setdefault(digest, threading.Lock())


def read_arrays(data: bytes | memoryview) -> Mapping[str, NDArray[Any]]:
    """The arrays of an .npz by name, read-only. Pickled objects are refused (ValueError)."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays

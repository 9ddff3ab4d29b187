"""Tensors that lie in files beside the ONNX file: found safely, and mapped, never read whole."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from planner.networks.errors import NetworkRefused
from planner.networks.reading.limits import Limits


class ExternalFiles:
    """The files beside one ONNX file; each is mapped once."""

    def __init__(self, model: Path, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._folder = model.resolve().parent
        self._mapped: dict[str, NDArray[np.uint8]] = {}
        self._bytes = 0

    def array(self, tensor: onnx.TensorProto, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The tensor as a read-only view of its file, perhaps unaligned.

        Raises: NetworkRefused: path-traversal, missing-data, truncated, absurd-shape, too-large, corrupt.
        """
        entries = {entry.key: entry.value for entry in tensor.external_data}
        nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        offset = self._number(entries.get("offset", "0"))
        length = self._number(entries.get("length", str(nbytes)))
        if length != nbytes:
            raise self._refused("absurd-shape", f"a tensor of {nbytes} bytes is said to have {length}")
        self._bytes += nbytes
        if self._bytes > self._limits.external_bytes:
            raise self._refused("too-large", f"more than {self._limits.external_bytes} bytes beside the file")
        found = self._file(entries.get("location", ""))
        if offset + nbytes > found.size:
            raise self._refused("truncated", "the file of a tensor ends before the tensor does")
        return found[offset : offset + nbytes].view(dtype).reshape(shape)

    def _number(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise self._refused("corrupt", "offset or length of external data is no number")
        return int(text)

    def _file(self, location: str) -> NDArray[np.uint8]:
        if location not in self._mapped:
            self._mapped[location] = self._map(self._inside(location))
        return self._mapped[location]

    def _inside(self, location: str) -> Path:
        """The file at `location`, which must lie in the model's own folder, links followed."""
        named = Path(location)
        if not location or "\0" in location or "\\" in location or named.is_absolute() or ".." in named.parts:
            raise self._refused("path-traversal", "external data is outside the model's folder")
        try:
            path = (self._folder / named).resolve()
        except (OSError, RuntimeError) as error:  # a loop of links
            raise self._refused("missing-data", "external data cannot be reached") from error
        if not path.is_relative_to(self._folder):
            raise self._refused("path-traversal", "external data is outside the model's folder")
        return path

    def _map(self, path: Path) -> NDArray[np.uint8]:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise self._refused("missing-data", "external data is not a file")
            if status.st_size == 0:
                return np.zeros(0, np.uint8)
            return np.asarray(np.memmap(path, np.uint8, "r"))
        except OSError as error:
            raise self._refused("missing-data", "the file of a tensor cannot be opened") from error

    def _refused(self, reason: str, message: str) -> NetworkRefused:
        return NetworkRefused(self._model, reason, message)

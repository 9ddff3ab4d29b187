"""Tensors that lie in files beside the ONNX file: found safely, and mapped, never read whole."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from planner.networks.errors import NetworkRefused
from planner.networks.reading.limits import Limits

_SAID = 60
"""Characters of a name or path that a message holds."""


class ExternalFiles:
    """The files beside one ONNX file; each is mapped once."""

    def __init__(self, model: Path, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self._folder = model.resolve().parent
        self._mapped: dict[str, NDArray[np.uint8]] = {}
        self._bytes = 0
        self._tensor = ""

    def array(self, tensor: onnx.TensorProto, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The tensor as a read-only view of its file, perhaps unaligned.

        Raises: NetworkRefused, naming the tensor and the file: path-traversal, missing-data, truncated,
        absurd-shape, too-large, corrupt.
        """
        self._tensor = tensor.name
        entries = {entry.key: entry.value for entry in tensor.external_data}
        nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        offset = self._number(entries.get("offset", "0"))
        length = self._number(entries.get("length", str(nbytes)))
        if length != nbytes:
            raise self._refused(
                "absurd-shape", f"has {nbytes} bytes by its shape, and is said to have {length}"
            )
        self._bytes += nbytes
        if self._bytes > self._limits.external_bytes:
            raise self._refused(
                "too-large", f"with it more than {self._limits.external_bytes} bytes lie beside the file"
            )
        location = entries.get("location", "")
        found = self._file(location)
        if offset + nbytes > found.size:
            raise self._refused(
                "truncated",
                f"its file {_said(location)} has {found.size} bytes and ends before the tensor does, "
                f"at {offset + nbytes}",
            )
        return found[offset : offset + nbytes].view(dtype).reshape(shape)

    def _number(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise self._refused("corrupt", "offset or length of its external data is no number")
        return int(text)

    def _file(self, location: str) -> NDArray[np.uint8]:
        if location not in self._mapped:
            self._mapped[location] = self._map(self._inside(location), _said(location))
        return self._mapped[location]

    def _inside(self, location: str) -> Path:
        """The file at `location`, which must lie in the model's own folder, links followed."""
        named = Path(location)
        if not location or "\0" in location or "\\" in location or named.is_absolute() or ".." in named.parts:
            raise self._refused("path-traversal", f"its file {_said(location)} is outside the model's folder")
        try:
            path = (self._folder / named).resolve()
        except (OSError, RuntimeError) as error:  # a loop of links
            raise self._refused("missing-data", f"its file {_said(location)} cannot be reached") from error
        if not path.is_relative_to(self._folder):
            raise self._refused("path-traversal", f"its file {_said(location)} is outside the model's folder")
        return path

    def _map(self, path: Path, said: str) -> NDArray[np.uint8]:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise self._refused("missing-data", f"its file {said} is a folder or a device")
            if status.st_size == 0:
                return np.zeros(0, np.uint8)
            return np.asarray(np.memmap(path, np.uint8, "r"))
        except OSError as error:
            why = "is not there" if isinstance(error, FileNotFoundError) else "cannot be opened"
            raise self._refused("missing-data", f"its file {said} {why}") from error

    def _refused(self, reason: str, message: str) -> NetworkRefused:
        return NetworkRefused(self._model, reason, f"tensor {_said(self._tensor)}: {message}")


def _said(text: str) -> str:
    """A stranger's text within a message: one line, in quotes, cut."""
    return repr(text if len(text) <= _SAID else text[:_SAID] + "...")

"""Open a network: read the file, bring it into canonical form. The one entry to both."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from planner.networks.errors import NetworkRefused, NotOpenable
from planner.networks.reading.canonical import canonicalise
from planner.networks.reading.canonical.fold import AbsurdConstant
from planner.networks.reading.finite import check_numbers
from planner.networks.reading.limits import Limits
from planner.networks.reading.read import read_graph
from planner.networks.structure import Opened

log = logging.getLogger(__name__)

DEFAULT_LIMITS = Limits()


def open_network(
    path: Path, overrides: Mapping[str, NDArray[Any]] | None = None, limits: Limits = DEFAULT_LIMITS
) -> Opened:
    """Read an ONNX file as structure and learned tensors, in canonical form.

    overrides: arrays that replace initialisers of these names, of equal shape and dtype: a variant of the
    file. Tensors are read-only views of the file's bytes, or of mapped files beside it, wherever the
    canonical form keeps them as they are; such views may be unaligned.

    Raises: NetworkRefused and NotOpenable, as `read_graph`; NetworkRefused with not-a-number where a learned
    tensor holds NaN; with absurd-shape also where
    constants beyond `limits.folded_bytes` would have to be computed; NotOpenable: not-understood,
    where a pass fails on it, which is logged.
    """
    try:
        graph = read_graph(path, overrides, limits)
        check_numbers(path, graph.constants)
    except UnicodeError as error:  # names are decoded when they are first looked at
        raise NetworkRefused(path, "corrupt", "a name that is no text") from error
    input_names = tuple(port.name for port in graph.inputs)
    output_names = tuple(graph.names_out)
    try:
        structure, tensors = canonicalise(graph, limits)
    except AbsurdConstant as error:
        raise NetworkRefused(path, "absurd-shape", str(error)) from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Operators checked one by one can still make no sense together; the runtime has the last word.
        log.warning("%s is not understood, which may be an error of ours", path.name, exc_info=True)
        raise NotOpenable("not-understood", f"{type(error).__name__}: {error}") from error
    return Opened(structure, tensors, input_names, output_names)

"""onnxruntime's own order of filters for 2D convolutions: channels in blocks that fill a vector register."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def layout_word(block: int, kind: str) -> str:
    """How a filter [out, in, rows, columns] lies. kind: `out` [out/b, in, rows, columns, b] or `both`
    [out/b, in/b, rows, columns, b in, b out]."""
    return f"{kind}{block}"


def blocked(filter_: NDArray[Any], layout: str) -> NDArray[Any]:
    """A filter in this layout, contiguous, its shape unchanged; "" leaves it as it is."""
    if not layout:
        return filter_
    kind, block = layout.rstrip("0123456789"), int(layout.lstrip("abcdefghijklmnopqrstuvwxyz"))
    out, in_, rows, columns = filter_.shape
    if kind == "both":
        cut = filter_.reshape(out // block, block, in_ // block, block, rows, columns)
        moved = cut.transpose(0, 2, 4, 5, 3, 1)
    else:
        moved = filter_.reshape(out // block, block, in_, rows, columns).transpose(0, 2, 3, 4, 1)
    return np.ascontiguousarray(moved).reshape(filter_.shape)


def fits(shape: tuple[int, ...], layout: str) -> bool:
    """Whether a filter of this shape can lie so."""
    kind, block = layout.rstrip("0123456789"), int(layout.lstrip("abcdefghijklmnopqrstuvwxyz"))
    return len(shape) == 4 and shape[0] % block == 0 and (kind == "out" or shape[1] % block == 0)

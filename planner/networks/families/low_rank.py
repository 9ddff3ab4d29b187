"""Differences that are a product of two thin matrices, as low-rank adaptation (LoRA) leaves them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-6
"""How far a number may be off, relative to the largest of the tensor. Storing a sum in float32 costs 6e-8."""

LARGEST_RANK = 64
"""Adapters have ranks of 4 to 64; a guess, with the largest of them as the end."""

_SAVING = 0.5  # the factors may take at most this share of the tensor
_OVERSAMPLED = (
    8  # columns beyond the rank that is looked for; 5 to 10 is usual (Halko et al. 2011, section 4)
)

_BLOCK = 1 << 22  # numbers whose difference is held at a time, 32 MB

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LowRank:
    """tensor = base + left @ right, of the tensor as a matrix [m = shape[0], n = the rest].

    left: float32[m, r]; right: float32[r, n]; error: the largest difference of any number, relative to the
    largest of the tensor.
    """

    left: Float
    right: Float
    error: float

    @property
    def rank(self) -> int:
        return int(self.left.shape[1])


def low_rank(base: NDArray[Any], tensor: NDArray[Any], tolerance: float = TOLERANCE) -> LowRank | None:
    """The product of smallest rank that turns `base` into `tensor` within `tolerance`, or None.

    None also where the factors would take more than half of what the tensor takes.

    A part of the rows and columns tells the rank, and soon whether there is none. Then the difference is
    multiplied with a few more random (seeded) columns than that: if it is of that rank, they span it.
    """
    if base.dtype != np.float32 or tensor.dtype != np.float32 or tensor.ndim < 2:
        return None
    rows, columns = tensor.shape[0], tensor.size // max(tensor.shape[0], 1)
    most = min(LARGEST_RANK, int(_SAVING * rows * columns / max(rows + columns, 1)))
    if most < 1:
        return None
    difference = _Difference(base.reshape(rows, columns), tensor.reshape(rows, columns))
    largest = float(max(tensor.max(), -tensor.min()))
    if not difference.is_finite() or largest == 0:
        return None
    expected = _rank_of_part(difference, most, tolerance * largest)
    if expected > most:
        return None
    least = max(expected, 1)
    for width in dict.fromkeys((least, most)):  # what changes few rows only may hide from the part
        if found := _within(difference, (least, width), tolerance * largest):
            return LowRank(found[0], found[1], found[2] / largest)
    return None


def with_low_rank(base: NDArray[Any], left: Float, right: Float) -> Float:
    """base + left @ right, in float32 and in the shape of `base`."""
    return np.asarray(base + (left @ right).reshape(base.shape), np.float32)


@dataclass(frozen=True, slots=True)
class _Difference:
    """tensor - base, both float32[m, n], as float64, of some rows at a time: all of it would be four times
    as much as either."""

    base: NDArray[Any]
    tensor: NDArray[Any]

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.tensor.shape
        return rows, columns

    def rows(self) -> Iterator[slice]:
        rows, columns = self.shape
        step = max(_BLOCK // columns, 1)
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows))

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Rows, with the difference there."""
        for part in self.rows():
            with np.errstate(over="ignore", invalid="ignore"):
                yield part, np.subtract(self.tensor[part], self.base[part], dtype=np.float64)

    def is_finite(self) -> bool:
        return all(np.isfinite(block).all() for _, block in self.blocks())

    def at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        places = np.ix_(rows, columns)
        part: NDArray[np.float64] = np.subtract(self.tensor[places], self.base[places], dtype=np.float64)
        return part

    def times(self, right: NDArray[np.float64]) -> NDArray[np.float64]:
        """difference @ right."""
        product = np.empty((self.shape[0], right.shape[1]))
        for rows, block in self.blocks():
            product[rows] = block @ right
        return product

    def under(self, left: NDArray[np.float64]) -> NDArray[np.float64]:
        """left.T @ difference."""
        total = np.zeros((left.shape[1], self.shape[1]))
        for rows, block in self.blocks():
            total += left[rows].T @ block
        return total

    def error_of(self, left: Float, right: Float) -> float:
        """The largest by which base + left @ right misses the tensor."""
        return max(
            float(np.abs(self.tensor[rows] - with_low_rank(self.base[rows], left[rows], right)).max())
            for rows in self.rows()
        )


def _rank_of_part(difference: _Difference, most: int, noise: float) -> int:
    """How many singular values of a part of the matrix are more than noise; the whole has no fewer."""
    rows, columns = (
        np.linspace(0, size - 1, min(size, most + _OVERSAMPLED)).astype(np.int64) for size in difference.shape
    )
    values = np.linalg.svd(difference.at(rows, columns), compute_uv=False)
    return int((values > noise).sum())


def _within(
    difference: _Difference, ranks: tuple[int, int], allowed: float
) -> tuple[Float, Float, float] | None:
    """left, right and the largest error of the smallest of these ranks that keeps to `allowed`."""
    least, width = ranks
    columns = min(width + _OVERSAMPLED, *difference.shape)
    random = np.random.default_rng(0).standard_normal((difference.shape[1], columns))
    basis, _ = np.linalg.qr(difference.times(random))
    left, singular, right = np.linalg.svd(difference.under(basis), full_matrices=False)
    left = basis @ left * singular

    def product(rank: int) -> tuple[Float, Float, float]:
        thin = (
            np.ascontiguousarray(left[:, :rank], np.float32),
            np.ascontiguousarray(right[:rank], np.float32),
        )
        return *thin, difference.error_of(*thin)

    best = product(width)
    while best[2] <= allowed and least < width:
        middle = (least + width) // 2
        if (found := product(middle))[2] <= allowed:
            best, width = found, middle
        else:
            least = middle + 1
    return best if best[2] <= allowed else None

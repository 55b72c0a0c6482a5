"""Tucker decomposition on the identity mode, exact, in one pass over a tensor of any size.

With a single mode there is nothing to iterate: the best factor is the leading eigenvectors of the
mode's Gram matrix (the left singular vectors of the unfolding), and the core is the orthogonal
projection. The Gram matrix is only I×I, so the tensor can be streamed in chunks; it is accumulated
in float64 because single precision loses the small singular values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_CHUNK = 1 << 20  # numbers: 8 MiB in float64


@dataclass(frozen=True)
class IdentityFactors:
    """Result of :func:`identity_tucker`.

    Attributes:
        factors: (I, rank) float64, orthonormal columns; row i holds identity i's coefficients.
        spectrum: (I,) float64, all singular values of the (weighted) unfolding, descending.
    """

    factors: NDArray[np.float64]
    spectrum: NDArray[np.float64]

    def project(self, chunk: Array) -> Array:
        """(I, M) chunk → (rank, M) core of it."""
        return self.factors.T.astype(chunk.dtype) @ chunk


def tensor_chunks(tensor: Array) -> Iterator[Array]:
    """(M, I, E) tensor → chunks (I, rows·E): the unfolding on the identity mode in pieces.

    Cut along the first axis, because there a slice is one run of memory.
    """
    rows = max(1, _CHUNK // (tensor.shape[1] * tensor.shape[2]))
    for first in range(0, len(tensor), rows):
        block = tensor[first : first + rows]
        yield np.ascontiguousarray(block.transpose(1, 0, 2)).reshape(tensor.shape[1], -1)


def gram(
    chunks: Iterable[Array], weights: Iterable[Array] | Array | None = None
) -> NDArray[np.float64]:
    """(I, I) float64 Σ X·diag(w)·Xᵀ over chunks X of shape (I, M).

    ``weights``: None, one (M,) for all chunks, or one (M,) per chunk; not negative.
    """
    total: NDArray[np.float64] | None = None
    if weights is None or isinstance(weights, np.ndarray):
        weights = repeat(weights)  # type: ignore[arg-type]
    for chunk, weight in zip(chunks, weights, strict=False):
        x = np.asarray(chunk, dtype=np.float64)
        if weight is not None:
            x = x * np.sqrt(weight)
        part = x @ x.T
        total = part if total is None else total + part
    if total is None:
        raise ValueError("no chunks were given")
    return total


def factors_from_gram(matrix: Array, rank: int) -> IdentityFactors:
    """Leading ``rank`` eigenvectors of an (I, I) Gram matrix, signs fixed for repeatability."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, dtype=np.float64))
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return IdentityFactors(
        factors=np.ascontiguousarray(vectors[:, :rank]),
        spectrum=np.sqrt(np.maximum(values, 0.0)),
    )


def identity_tucker(
    chunks: Iterable[Array], rank: int, weights: Iterable[Array] | Array | None = None
) -> IdentityFactors:
    """Factor of the identity mode of a tensor given as chunks (I, M).

    Args:
        chunks: the unfolding in pieces, for example :func:`tensor_chunks`; read once.
        rank: coefficients to keep, at most I.
        weights: importance of columns, see :func:`gram`.
    """
    return factors_from_gram(gram(chunks, weights), rank)


def tensorly_tucker(tensor: Array, rank: int) -> tuple[Array, Array]:
    """Reference by tensorly: (M, I, E) → (core (M, rank, E), factors (I, rank))."""
    from tensorly.decomposition import partial_tucker  # only the comparison needs it

    (core, factors), _ = partial_tucker(tensor, rank=[rank], modes=[1], init="svd")
    return np.asarray(core), np.asarray(factors[0])


def gram_tucker(tensor: Array, rank: int) -> tuple[Array, Array]:
    """The same as :func:`tensorly_tucker` by the Gram route."""
    result = identity_tucker(tensor_chunks(tensor), rank)
    # The tensor lies in memory row by row, so the core is one small product per row.
    return np.matmul(result.factors.T.astype(tensor.dtype), tensor), result.factors

"""The Gram route is the SVD optimum, and tensorly agrees."""

from __future__ import annotations

import numpy as np
import pytest

from head360.geometry.tucker import (
    gram,
    gram_tucker,
    identity_tucker,
    tensor_chunks,
    tensorly_tucker,
)

RANK = 6


@pytest.fixture(scope="module")
def tensor() -> np.ndarray:
    rng = np.random.default_rng(0)
    core = rng.standard_normal((90, 12, 7))
    factors = rng.standard_normal((20, 12)) * 0.7 ** np.arange(12)
    noise = 0.01 * rng.standard_normal((90, 20, 7))
    return (np.einsum("mre,ir->mie", core, factors) + noise).astype(np.float32)


def reconstruct(core: np.ndarray, factors: np.ndarray) -> np.ndarray:
    return np.einsum("mre,ir->mie", core.astype(np.float64), factors.astype(np.float64))


def test_equals_the_svd_optimum(tensor: np.ndarray) -> None:
    core, factors = gram_tucker(tensor, RANK)
    unfolded = tensor.transpose(1, 0, 2).reshape(20, -1).astype(np.float64)
    singular = np.linalg.svd(unfolded, compute_uv=False)
    error = np.linalg.norm(tensor - reconstruct(core, factors))
    assert error == pytest.approx(np.sqrt((singular[RANK:] ** 2).sum()), rel=1e-5)
    spectrum = identity_tucker(tensor_chunks(tensor), RANK).spectrum
    np.testing.assert_allclose(spectrum, singular, rtol=1e-6)
    np.testing.assert_allclose(factors.T @ factors, np.eye(RANK), atol=1e-12)


def test_agrees_with_tensorly(tensor: np.ndarray) -> None:
    core, factors = gram_tucker(tensor, RANK)
    reference_core, reference_factors = tensorly_tucker(tensor, RANK)
    cosines = np.linalg.svd(factors.T @ reference_factors, compute_uv=False)
    assert cosines.min() > 1 - 1e-5
    ours = reconstruct(core, factors)
    theirs = reconstruct(reference_core, reference_factors)
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(tensor).max())
    # The same core, seen in the other's basis.
    turned = np.einsum("mre,sr->mse", core, reference_factors.T @ factors)
    np.testing.assert_allclose(turned, reference_core, atol=2e-3 * np.abs(core).max())


def test_weights_move_the_subspace_towards_the_heavy_columns(tensor: np.ndarray) -> None:
    chunks = list(tensor_chunks(tensor))
    assert len(chunks) == 1
    heavy = np.full(chunks[0].shape[1], 1e-4)
    heavy[:70] = 1.0

    def error(weights: np.ndarray | None) -> float:
        u = identity_tucker(chunks, RANK, weights).factors
        part = chunks[0][:, :70].astype(np.float64)
        return float(np.linalg.norm(part - u @ (u.T @ part)))

    assert error(heavy) < error(None)


def test_chunks_add_up(tensor: np.ndarray) -> None:
    by_slices = gram([tensor[:, :, e].T for e in range(7)])
    np.testing.assert_allclose(by_slices, gram(tensor_chunks(tensor)), rtol=1e-10)
    with pytest.raises(ValueError):
        gram([])

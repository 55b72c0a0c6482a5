"""The light of a photograph against the light that a base was trained in.

Both are compared on the skin: the logarithm of their ratio is a smooth function of the normal (nine
spherical harmonics per channel, after Ramamoorthi and Hanrahan) where it is light, and anything
else where it is the person. The constant term is complexion as much as exposure: it stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ROUNDS = 6
_HUBER = 0.12  # of the log ratio; what differs more is the person
_RIDGE = 0.004  # of the squared coefficients against the mean squared residual
_BENT = 16  # degree 2 against degree 1: it also fits the relief of a face
_MOST = 0.6  # largest log ratio that light may explain


def harmonics(normals: Floats) -> Floats:
    """(M, 3) unit normals → (M, 9) real harmonics up to degree 2, each of size about 1."""
    x, y, z = normals.T
    return np.stack(
        [np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, (3 * z * z - 1) / 2], 1
    ).astype(np.float32)


def light_of(ratio: Floats, normals: Floats, weight: Floats) -> Floats:
    """Coefficients (9, 3) of the light in a log ratio of colours; the first row is complexion.

    Args:
        ratio: (M, 3) log of photograph by base.
        normals: (M, 3) unit, head space.
        weight: (M,) trust, 0 where nothing is seen.
    """
    used = weight > 0
    coefficients: NDArray[np.float64] = np.zeros((9, 3))
    if used.sum() < 50:
        return coefficients.astype(np.float32)
    basis = harmonics(normals[used]).astype(np.float64)
    values, trust = ratio[used].astype(np.float64), weight[used].astype(np.float64)
    ridge = np.diag([1e-6] + [_RIDGE] * 3 + [_BENT * _RIDGE] * 5)
    reliable = np.ones(len(values))
    for _ in range(_ROUNDS):
        load = trust * reliable
        load /= load.sum()
        normal = (basis * load[:, None]).T @ basis + ridge
        right = (basis * load[:, None]).T @ values
        coefficients = np.asarray(np.linalg.solve(normal, right))
        left = np.abs(values - basis @ coefficients).mean(1)
        reliable = 1.0 / np.maximum(1.0, left / _HUBER)
    return coefficients.astype(np.float32)


def shading(coefficients: Floats, normals: Floats, strength: float = 1.0) -> Floats:
    """(…, 3) log ratio that the light alone makes at normals (…, 3), without the constant."""
    flat = normals.reshape(-1, 3)
    light = harmonics(flat)[:, 1:] @ coefficients[1:] * strength
    # What the mean normal of a face gets is exposure, and belongs to the constant.
    front = harmonics(np.array([[0.0, 0.0, 1.0]], dtype=np.float32))[:, 1:] @ coefficients[1:]
    light = np.clip(light - front * strength, -_MOST, _MOST)
    return np.asarray(light.reshape(normals.shape), dtype=np.float32)


def two_faced(coefficients: Floats) -> float:
    """How much brighter one side is than the other: the ratio of both cheeks, 1 is even."""
    side = np.array([[0.6, 0.0, 0.8], [-0.6, 0.0, 0.8]], dtype=np.float32)
    left, right = shading(coefficients, side).mean(1)
    return float(np.exp(abs(left - right)))

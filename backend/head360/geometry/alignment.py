"""One cloud of points laid over another with least error: turned, shifted and scaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.geometry.transfer import similarity

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Similarity:
    """x ↦ scale · turn @ x + shift: how one head is laid over another.

    Attributes:
        turn: (3, 3). shift: (3,) metres.
    """

    scale: float
    turn: NDArray[np.float64]
    shift: NDArray[np.float64]

    def of(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, 3) → (N, 3)."""
        return self.scale * points.astype(np.float64) @ self.turn.T + self.shift


def aligned(points: Floats, onto: Floats, scaled: bool = True) -> Similarity:
    """What carries (N, 3) ``points`` onto others with least error (Umeyama 1991).

    ``scaled`` gives the size away: one photograph does not tell it.
    """
    linear = similarity(points, onto)
    size = float(np.cbrt(np.linalg.det(linear)))
    turn, scale = linear / size, size if scaled else 1.0
    middle, other = (np.asarray(x, dtype=np.float64).mean(0) for x in (points, onto))
    return Similarity(scale, turn, other - scale * turn @ middle)

"""A smooth warp between one identity's head and the average one, on a coarse lattice.

Hair is modelled once, around the average head, and worn by everybody: a point near any head is
carried to *canonical* space (around the average neutral head) by a displacement that is sampled on
a lattice. The synthesis room moves hair cards with the same warp that the hair branch of the
neural head undoes, so pictures and model agree exactly.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from head360.rendering.cameras import from_normalised, to_normalised

Floats = NDArray[np.float32]

# The parts whose shape carries the hair. Studio and heads must warp with the same ones.
ANCHOR_PARTS = ("face", "head_neck")
SIZE = 12  # nodes per axis
_SIGMA = 0.035  # metres; wider than any facial feature, narrower than the skull
_MAX_ANCHORS = 1500


class Lattice:
    """Displacements on ``SIZE``³ nodes of normalised space, x fastest last (z, y, x order).

    Attributes:
        displacement: (SIZE, SIZE, SIZE, 3) float32, normalised units, indexed [z, y, x].
    """

    def __init__(self, displacement: Floats) -> None:
        self.displacement = np.ascontiguousarray(displacement, dtype=np.float32)

    @staticmethod
    def between(identity: Floats, average: Floats) -> Lattice:
        """The warp identity → canonical.

        Args:
            identity: (M, 3) skin vertices of the identity's neutral, metres, head space.
            average: (M, 3) the same vertices on the average head.
        """
        step = max(1, len(identity) // _MAX_ANCHORS)
        anchors = to_normalised(identity[::step])
        shifts = to_normalised(average[::step]) - anchors
        axis = np.linspace(-1, 1, SIZE)
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        nodes = np.stack([x, y, z], -1).reshape(-1, 3)
        squared = (nodes**2).sum(1)[:, None] + (anchors**2).sum(1)[None] - 2 * nodes @ anchors.T
        scale = _SIGMA / np.abs(from_normalised(np.ones(3)) - from_normalised(np.zeros(3)))[0]
        # Subtracting the nearest distance keeps far nodes on their nearest anchors' motion.
        weight = np.exp(-(squared - squared.min(1, keepdims=True)) / (2 * scale**2))
        field = (weight @ shifts) / weight.sum(1, keepdims=True)
        return Lattice(field.reshape(SIZE, SIZE, SIZE, 3))

    def to_canonical(self, normalised: Floats) -> Floats:
        """Carry (M, 3) points around the identity's head into canonical space (normalised)."""
        out = np.empty_like(normalised)
        _warp(np.ascontiguousarray(normalised), self.displacement, out)
        return out

    def from_canonical(self, canonical: Floats, iterations: int = 12) -> Floats:
        """Inverse of :meth:`to_canonical` by fixed-point iteration (the warp is gentle)."""
        point = canonical.copy()
        for _ in range(iterations):
            point += canonical - self.to_canonical(point)
        return point


@njit(parallel=True, cache=True, fastmath=True)
def _warp(points, displacement, out):  # type: ignore[no-untyped-def]
    """Trilinear displacement of (M, 3) points; the border repeats outside the box."""
    size = displacement.shape[0]
    for m in prange(points.shape[0]):
        x = min(max((points[m, 0] + 1) * 0.5 * (size - 1), 0.0), size - 1.00001)
        y = min(max((points[m, 1] + 1) * 0.5 * (size - 1), 0.0), size - 1.00001)
        z = min(max((points[m, 2] + 1) * 0.5 * (size - 1), 0.0), size - 1.00001)
        i, j, k = int(x), int(y), int(z)
        fx, fy, fz = x - i, y - j, z - k
        for axis in range(3):
            near = (
                displacement[k, j, i, axis] * (1 - fx) + displacement[k, j, i + 1, axis] * fx
            ) * (1 - fy) + (
                displacement[k, j + 1, i, axis] * (1 - fx)
                + displacement[k, j + 1, i + 1, axis] * fx
            ) * fy
            far = (
                displacement[k + 1, j, i, axis] * (1 - fx)
                + displacement[k + 1, j, i + 1, axis] * fx
            ) * (1 - fy) + (
                displacement[k + 1, j + 1, i, axis] * (1 - fx)
                + displacement[k + 1, j + 1, i + 1, axis] * fx
            ) * fy
            out[m, axis] = points[m, axis] + near * (1 - fz) + far * fz

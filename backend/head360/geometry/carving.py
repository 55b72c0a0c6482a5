"""What of space is solid, seen from all around: signed depth behind a mesh in many directions.

The mesh of a head is no solid: lids, teeth and tongue are shells within shells, and the bust is
open below. A point counts as solid when it lies behind the first surface in *every* direction;
hidden cavities fill up and parts that touch become one. The smallest of the depths is continuous
and close to a signed distance, so marching cubes places the surface between grid points.
"""

from __future__ import annotations

import itertools

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from head360.rendering import raster

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_JUMP = 6.0  # texels; neighbours that differ by more belong to different surfaces
_EMPTY = 1e3


class Carving:
    """Depth maps of a triangle mesh from 26 directions: sides, edges and corners of a cube.

    Args:
        vertices: (N, 3) float32, any frame and unit. Counter-clockwise or not does not matter.
        faces: (F, 3) int32; holes that should not be seen through must be capped.
        size: texels per side of each depth map.
    """

    def __init__(self, vertices: Floats, faces: Ints, size: int) -> None:
        self._centre = (vertices.min(0) + vertices.max(0)) / 2
        local = vertices - self._centre
        self._half = float(np.linalg.norm(local, axis=1).max()) * 1.02
        self._axes = np.stack([_basis(direction) for direction in _directions()])
        self._texel = 2 * self._half / size
        maps = []
        for axes in self._axes:  # one at a time: fragments take more memory than depths
            screen = np.ones((len(local), 4), dtype=np.float32)
            screen[:, :2] = (local @ axes[:2].T / self._half + 1) * 0.5 * size
            screen[:, 2] = local @ axes[2] + self._half + raster.NEAR
            depth = raster.rasterize(screen[None], faces, size, size).depth[0]
            maps.append(np.where(np.isfinite(depth), depth - raster.NEAR - self._half, _EMPTY))
        self._depth = np.stack(maps).astype(np.float32)

    def inside(self, points: Floats, limit: float) -> Floats:
        """(M,) float32 depth of (M, 3) points inside the solid, negative outside, ±``limit``."""
        out = np.empty(len(points), dtype=np.float32)
        local = np.ascontiguousarray(points - self._centre, dtype=np.float32)
        _carve(local, self._axes, self._depth, self._half, limit, _JUMP * self._texel, out)
        return out


def longest_rim(vertices: Floats, faces: Ints) -> list[int]:
    """Vertex ids around the longest open rim, in the order of its triangles; empty if closed."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(int(a), int(b)) for a, b in directed}
    following = {a: b for a, b in known if (b, a) not in known}
    best: list[int] = []
    longest = 0.0
    while following:
        start, node = next(iter(following.items()))
        loop = [start]
        del following[start]
        while node in following:
            loop.append(node)
            node = following.pop(node)
        rim = vertices[loop]
        length = float(np.linalg.norm(rim - np.roll(rim, -1, axis=0), axis=1).sum())
        if length > longest:
            longest, best = length, loop
    return best if len(best) > 2 else []


def close_rim(vertices: Floats, faces: Ints, rim: list[int]) -> tuple[Floats, Ints]:
    """Cap a rim of :func:`longest_rim` with a fan around its centre.

    Returns:
        (N + 1, 3) vertices and (F + len(rim), 3) faces.
    """
    fan = [(b, a, len(vertices)) for a, b in zip(rim, [*rim[1:], rim[0]], strict=True)]
    centre = vertices[rim].mean(0, keepdims=True)
    return (
        np.concatenate([vertices, centre]).astype(np.float32),
        np.concatenate([faces, np.array(fan, dtype=np.int32)]),
    )


def cut_above(rim: Floats, towards: Floats, margin: float) -> tuple[Floats, float]:
    """A plane that has the whole rim (K, 3) on one side, ``margin`` away, close to its own plane.

    Returns:
        (3,) unit normal on the side of the point ``towards`` (3,), and the offset d: a point p is
        kept where p·normal > d.
    """
    centre = rim.mean(0)
    normal = np.linalg.svd(rim - centre, full_matrices=False)[2][2].astype(np.float32)
    if (towards - centre) @ normal < 0:
        normal = -normal
    return normal, float((rim @ normal).max()) + margin


def _directions() -> list[NDArray[np.float64]]:
    grid = itertools.product((-1.0, 0.0, 1.0), repeat=3)
    return [np.array(d) / np.linalg.norm(d) for d in grid if any(d)]


def _basis(forward: NDArray[np.float64]) -> Floats:
    """(3, 3) float32 rows: two image axes and the viewing direction."""
    helper = np.eye(3)[int(np.argmin(np.abs(forward)))]
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward]).astype(np.float32)


@njit(parallel=True, cache=True)
def _carve(points, axes, depth, half, limit, jump, out):  # type: ignore[no-untyped-def]
    views, size = depth.shape[0], depth.shape[1]
    for m in prange(points.shape[0]):
        # Outside, the view that sees the surface most squarely says how far away it is.
        behind, before = limit, -limit
        outside = False
        for v in range(views):
            x = y = z = 0.0
            for k in range(3):
                x += points[m, k] * axes[v, 0, k]
                y += points[m, k] * axes[v, 1, k]
                z += points[m, k] * axes[v, 2, k]
            column = (x / half + 1) * 0.5 * size - 0.5
            row = (y / half + 1) * 0.5 * size - 0.5
            if column < 0 or row < 0 or column >= size - 1 or row >= size - 1:
                outside = True
                continue
            i, j = int(row), int(column)
            fy, fx = row - i, column - j
            a, b = depth[v, i, j], depth[v, i, j + 1]
            c, d = depth[v, i + 1, j], depth[v, i + 1, j + 1]
            near = min(min(a, b), min(c, d))
            far = max(max(a, b), max(c, d))
            if far - near > jump:
                # At an outline this view is not sure: another one sees the place from the side.
                at = near
            else:
                at = (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
            if z < at:
                outside = True
                before = max(before, z - at)
            else:
                behind = min(behind, z - at)
        out[m] = before if outside else behind

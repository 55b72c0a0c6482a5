"""The motion of a mesh's surface in numba: what ``meshrig`` does with torch, many times faster.

Three passes: triangles (rotation and stretch), vertices (averages over their triangles), Gaussians.
One thread: 20,000 triangles take about a millisecond, and starting threads costs as much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ring:
    """Triangles around every vertex: those of v are ``faces[start[v]:start[v + 1]]``."""

    start: Ints
    faces: Ints

    @staticmethod
    def of(faces: Ints, vertices: int) -> Ring:
        """Of triangles (F, 3)."""
        corners = faces.reshape(-1)
        order = np.argsort(corners, kind="stable")
        start = np.searchsorted(corners[order], np.arange(vertices + 1))
        return Ring(start.astype(np.int64), (order // 3).astype(np.int64))


def carry(
    vertices: Floats,
    faces: Ints,
    basis: Floats,
    size: Floats,
    ring: Ring | None,
    face: Ints,
    bary: Floats,
    limits: tuple[float, float, float],
) -> tuple[Floats, Floats, Floats]:
    """Anchors (N, 3), turns (N, 4) and stretch (N, 1); see ``MeshRig.carry``.

    Args:
        vertices: (V, 3) posed; faces: (F, 3).
        basis: (F, 3, 3) neutral frames, axes in columns; size: (F,) as ``meshrig`` keeps it.
        ring: smooth over it; None takes each triangle's own frame.
        face: (N,), −1 is free; bary: (N, 3).
        limits: smallest squared size, smallest and largest stretch.
    """
    surface = np.empty((len(faces), 5), dtype=vertices.dtype)
    _surface(vertices, faces, basis, size, limits, surface)
    around = surface
    if ring is not None:
        around = np.empty((len(vertices), 5), dtype=vertices.dtype)
        _average(surface, size, ring.start, ring.faces, around)
    count = len(face)
    anchors = np.zeros((count, 3), dtype=vertices.dtype)
    turns = np.zeros((count, 4), dtype=vertices.dtype)
    stretch = np.ones((count, 1), dtype=vertices.dtype)
    _follow(vertices, faces, around, ring is not None, face, bary, anchors, turns, stretch)
    return anchors, turns, stretch


@njit(cache=True)
def _quaternion(r, q):  # type: ignore[no-untyped-def]
    """Rotation matrix (3, 3) → unit quaternion with w ≥ 0, by the largest of four divisors."""
    xx, yy, zz = r[0, 0], r[1, 1], r[2, 2]
    trace = xx + yy + zz
    if trace >= xx and trace >= yy and trace >= zz:
        q[0], q[1] = 1 + trace, r[2, 1] - r[1, 2]
        q[2], q[3] = r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    elif xx >= yy and xx >= zz:
        q[0], q[1] = r[2, 1] - r[1, 2], 1 + xx - yy - zz
        q[2], q[3] = r[1, 0] + r[0, 1], r[0, 2] + r[2, 0]
    elif yy >= zz:
        q[0], q[1] = r[0, 2] - r[2, 0], r[1, 0] + r[0, 1]
        q[2], q[3] = 1 - xx + yy - zz, r[2, 1] + r[1, 2]
    else:
        q[0], q[1] = r[1, 0] - r[0, 1], r[0, 2] + r[2, 0]
        q[2], q[3] = r[2, 1] + r[1, 2], 1 - xx - yy + zz
    scale = 1 / math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    if q[0] < 0:
        scale = -scale
    for i in range(4):
        q[i] *= scale


@njit(cache=True)
def _surface(vertices, faces, basis, size, limits, out):  # type: ignore[no-untyped-def]
    least, low, high = limits
    for f in range(len(faces)):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        ex, ey, ez = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        ox, oy, oz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = ey * oz - ez * oy, ez * ox - ex * oz, ex * oy - ey * ox
        squared = nx * nx + ny * ny + nz * nz
        if squared < least or size[f] < least:
            out[f, 0], out[f, 1], out[f, 2], out[f, 3], out[f, 4] = 1, 0, 0, 0, 1
            continue
        length = 1 / math.sqrt(squared)
        nx, ny, nz = nx * length, ny * length, nz * length
        length = 1 / math.sqrt(ex * ex + ey * ey + ez * ez)
        ex, ey, ez = ex * length, ey * length, ez * length
        frame = np.empty((3, 3))
        frame[0, 0], frame[1, 0], frame[2, 0] = ex, ey, ez
        frame[0, 1], frame[1, 1], frame[2, 1] = (
            ny * ez - nz * ey, nz * ex - nx * ez, nx * ey - ny * ex,
        )  # fmt: skip
        frame[0, 2], frame[1, 2], frame[2, 2] = nx, ny, nz
        turn = np.zeros((3, 3))
        for i in range(3):
            for j in range(3):
                for k in range(3):
                    turn[i, j] += frame[i, k] * basis[f, j, k]
        _quaternion(turn, out[f])
        out[f, 4] = min(max((squared / size[f]) ** 0.25, low), high)


@njit(cache=True)
def _average(surface, size, start, ring, out):  # type: ignore[no-untyped-def]
    for v in range(len(out)):
        total = 0.0
        sums = np.zeros(5)
        for at in range(start[v], start[v + 1]):
            weight = math.sqrt(size[ring[at]])
            total += weight
            for i in range(5):
                sums[i] += weight * surface[ring[at], i]
        for i in range(5):
            out[v, i] = sums[i] / max(total, 1e-30)


@njit(cache=True)
def _follow(vertices, faces, around, smooth, face, bary, anchors, turns, stretch):  # type: ignore[no-untyped-def]
    for n in range(len(face)):
        f = face[n]
        if f < 0:
            turns[n, 0] = 1
            continue
        mixed = np.zeros(5)
        for corner in range(3):
            v, weight = faces[f, corner], bary[n, corner]
            for i in range(3):
                anchors[n, i] += weight * vertices[v, i]
            source = around[v] if smooth else around[f]
            for i in range(5):
                mixed[i] += weight * source[i]
        length = math.sqrt(mixed[0] ** 2 + mixed[1] ** 2 + mixed[2] ** 2 + mixed[3] ** 2)
        for i in range(4):
            turns[n, i] = mixed[i] / length
        stretch[n, 0] = mixed[4]

"""The average head as hair sees it: a frame on the skull, the hairline, distance to the skin.

Angles are measured at ``CENTRE``, a point inside the skull: *azimuth* 0° in front, ±90° at the
ears (positive to the subject's left), ±180° behind; *elevation* 90° at the vertex.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from head360.geometry.attach import vertex_normals
from head360.geometry.bilinear import BilinearModel
from head360.geometry.lattice import ANCHOR_PARTS
from head360.rendering.cameras import BOX_CENTRE, BOX_HALF

Doubles = NDArray[np.float64]

CENTRE = np.array([0.0, 0.03, -0.01])  # metres, inside the skull of the average head
_GRID = 72  # nodes per axis of the distance grid: 5.3 mm
_SUBDIVISION = 4  # steps along the edges of large triangles when distances are measured
_LARGE = 0.005  # metres, the edge of a large triangle
_CELL = 0.006  # metres, of the cells in which samples of the skin are looked up
_FAR = 0.05  # metres from the skin beyond which distances are not needed

# The natural hairline, elevation by |azimuth| in degrees: forehead, temples, sideburns in front
# of the ear, over the ear, behind it, nape.
_LINE_AZIMUTH = np.array([0, 14, 26, 36, 46, 54, 60, 65, 70, 74, 78, 90, 100, 107, 116, 130, 180.0])
_LINE_ELEVATION = np.array(
    [33, 33.5, 35.5, 36, 28, 15, 3, -10, -18, -16, -4, 1, -3, -14, -29, -39, -41.0]
)


@dataclass(frozen=True)
class Scalp:
    """Skin of the average head with what growth asks of it. Metres, head space.

    Attributes:
        vertices, normals: (N, 3) float64 all vertices of the model (only skin is used).
        faces: (F, 3) int32 the triangles of the skin from the hairline's lowest point upwards.
        grid: (G, G, G, 4) float32 indexed [z, y, x]: signed distance and its outward gradient.
    """

    vertices: Doubles
    normals: Doubles
    faces: NDArray[np.int32]
    grid: NDArray[np.float32]

    @staticmethod
    def of(vertices: NDArray[np.floating], skin_faces: NDArray[np.int32]) -> Scalp:
        """Measure a head: (N, 3) metres and the (F, 3) triangles of its outer skin."""
        points = np.asarray(vertices, dtype=np.float64)
        normals = vertex_normals(points, skin_faces).astype(np.float64)
        azimuth, elevation = angles(points[skin_faces].mean(1))
        behind = np.abs(azimuth) > 55
        wanted = (elevation > 20) | (behind & (elevation > -50))
        grid = _distance_grid(points, normals, skin_faces)
        return Scalp(points, normals, skin_faces[wanted].astype(np.int32), grid)

    @staticmethod
    @lru_cache(maxsize=1)
    def builtin() -> Scalp:
        """Of the average head of the shipped model; kept in memory."""
        model = BilinearModel.builtin()
        faces = model.topology.faces[model.topology.part_faces(*ANCHOR_PARTS)]
        return Scalp.of(model.neutral(model.mean_shape), faces)

    def distance(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """Signed distance (M,) to the skin (outside positive) and unit outward gradient (M, 3)."""
        out = np.empty((len(points), 4))
        _sample(
            np.ascontiguousarray(points, dtype=np.float64), self.grid, BOX_CENTRE, BOX_HALF, out
        )
        gradient = out[:, 1:]
        gradient /= np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)
        return out[:, 0], gradient


def angles(points: Doubles) -> tuple[Doubles, Doubles]:
    """(M, 3) metres → azimuth and elevation (M,) in degrees."""
    offset = points - CENTRE
    azimuth = np.degrees(np.arctan2(offset[:, 0], offset[:, 2]))
    elevation = np.degrees(np.arctan2(offset[:, 1], np.hypot(offset[:, 0], offset[:, 2])))
    return azimuth, elevation


def smooth(low: float, high: float, value: Doubles) -> Doubles:
    """Smoothstep from 0 at ``low`` to 1 at ``high``."""
    x = np.clip((value - low) / (high - low), 0.0, 1.0)
    return x * x * (3 - 2 * x)


def above_hairline(points: Doubles, recede: float = 0.0, peak: float = 0.0) -> Doubles:
    """(M,) degrees of elevation above the hairline, negative on bare skin.

    Args:
        points: (M, 3) on the skin, metres.
        recede: degrees by which the temples have lost hair (the forelock loses a third).
        peak: degrees by which a widow's peak comes down in the middle of the forehead.
    """
    azimuth, elevation = angles(points)
    side = np.abs(azimuth)
    line = np.interp(side, _LINE_AZIMUTH, _LINE_ELEVATION)
    temples = np.exp(-(((side - 36.0) / 17.0) ** 2))
    line = line + recede * (temples + 0.33 * (1 - smooth(0, 30, side)))
    line = line - peak * np.exp(-((side / 9.0) ** 2))
    # Nobody's hairline is a drawn curve.
    line = line + 1.1 * np.sin(azimuth * 0.31 + 0.7) + 0.8 * np.sin(azimuth * 0.83 + 2.0)
    return np.where(_is_ear(points), -30.0, elevation - line)


def _is_ear(points: Doubles) -> NDArray[np.bool_]:
    """Which points belong to the auricles: they stick out of the skull beside it."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    inside = (y > -0.048) & (y < 0.027) & (z > -0.024) & (z < 0.026)
    return inside & (x > 0.0735 + 0.12 * np.maximum(y - 0.012, 0.0))


def _distance_grid(
    points: Doubles, normals: Doubles, faces: NDArray[np.int32]
) -> NDArray[np.float32]:
    """(G, G, G, 4) signed distance and gradient at the nodes of the grid, exact near the skin."""
    used = np.unique(faces)
    corners = points[faces]
    size = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max(1)
    large = faces[size > _LARGE]
    steps = range(_SUBDIVISION + 1)
    weights = [(i, j, _SUBDIVISION - i - j) for i in steps for j in steps if i + j <= _SUBDIVISION]
    bary = np.array(weights, dtype=np.float64) / _SUBDIVISION
    samples = np.concatenate(
        [points[used], np.einsum("bk,fkc->fbc", bary, points[large]).reshape(-1, 3)]
    )
    outward = np.concatenate(
        [normals[used], np.einsum("bk,fkc->fbc", bary, normals[large]).reshape(-1, 3)]
    )
    axis = np.linspace(-1, 1, _GRID) * BOX_HALF
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    nodes = np.stack([x, y, z], -1).reshape(-1, 3) + BOX_CENTRE
    # Far from the skin nobody asks how far; the middle of the skull counts as inside.
    index = _nearest(nodes, *_in_cells(samples), _FAR)
    far = index < 0
    index[far] = 0
    offset = np.where(far[:, None], nodes - CENTRE, nodes - samples[index])
    away = np.sqrt((offset**2).sum(1))
    away = np.where(far, np.maximum(away, 1e-9), away)
    # An open bust has no inside below its edge: the nearest sample's normal decides.
    height = (offset * outward[index]).sum(1)
    height = np.where(far, np.where(away < 0.06, -_FAR, _FAR), height)
    sign = np.where((height < 0) & ~far, -1.0, 1.0)
    gradient = np.where(
        away[:, None] > 0.004,
        sign[:, None] * offset / np.maximum(away, 1e-9)[:, None],
        outward[index],
    )
    away = np.where(far, np.abs(height), away)
    sign = np.where(height < 0, -1.0, 1.0)
    near = np.where(away > 0.004, sign * away, height)
    grid = np.concatenate([near[:, None], gradient], 1)
    return grid.reshape(_GRID, _GRID, _GRID, 4).astype(np.float32)


def _in_cells(
    samples: Doubles,
) -> tuple[Doubles, NDArray[np.int64], Doubles, NDArray[np.int64], NDArray[np.int64]]:
    """Points sorted into cells: the lowest corner, how many cells along z, y and x, the sorted
    points, where each cell starts among them, and the number each had before."""
    low = samples.min(0)
    cell = ((samples - low) / _CELL).astype(np.int64)[:, ::-1]
    size = cell.max(0) + 1
    flat = np.ravel_multi_index(tuple(cell.T), tuple(size))
    order = np.argsort(flat, kind="stable")
    start = np.searchsorted(flat[order], np.arange(size.prod() + 1))
    return low, size, samples[order], start, order


@njit(cache=True)
def _nearest(nodes, low, size, points, start, order, reach):  # type: ignore[no-untyped-def]
    """(M,) number of the point closest to each node, −1 where none is within ``reach``.

    Nodes follow each other closely: the last one's point is a good first guess.
    """
    found = np.full(nodes.shape[0], -1, dtype=np.int64)
    last = -1
    for m in range(nodes.shape[0]):
        x, y, z = nodes[m, 0], nodes[m, 1], nodes[m, 2]
        best, at = reach * reach, -1
        if last >= 0:
            dx, dy, dz = points[last, 0] - x, points[last, 1] - y, points[last, 2] - z
            away = dx * dx + dy * dy + dz * dz
            if away < best:
                best, at = away, last
        ball = np.sqrt(best)
        first_k = max(int(np.floor((z - ball - low[2]) / _CELL)), 0)
        last_k = min(int(np.floor((z + ball - low[2]) / _CELL)), size[0] - 1)
        first_j = max(int(np.floor((y - ball - low[1]) / _CELL)), 0)
        last_j = min(int(np.floor((y + ball - low[1]) / _CELL)), size[1] - 1)
        for k in range(first_k, last_k + 1):
            side = low[2] + k * _CELL - z
            dz = max(side, -side - _CELL, 0.0)
            for j in range(first_j, last_j + 1):
                side = low[1] + j * _CELL - y
                dy = max(side, -side - _CELL, 0.0)
                room = best - dz * dz - dy * dy
                if room <= 0.0:
                    continue
                half = np.sqrt(room)
                first = max(int(np.floor((x - half - low[0]) / _CELL)), 0)
                final = min(int(np.floor((x + half - low[0]) / _CELL)), size[2] - 1)
                if first > final:
                    continue
                row = (k * size[1] + j) * size[2]
                for p in range(start[row + first], start[row + final + 1]):
                    ax, ay, az = points[p, 0] - x, points[p, 1] - y, points[p, 2] - z
                    away = ax * ax + ay * ay + az * az
                    if away < best:
                        best, at = away, p
        last = at
        if at >= 0:
            found[m] = order[at]
    return found


@njit(cache=True)
def _sample(points, grid, centre, half, out):  # type: ignore[no-untyped-def]
    """Trilinear; the border repeats outside the box."""
    size = grid.shape[0]
    for m in range(points.shape[0]):
        x = min(max(((points[m, 0] - centre[0]) / half + 1) * 0.5 * (size - 1), 0.0), size - 1.001)
        y = min(max(((points[m, 1] - centre[1]) / half + 1) * 0.5 * (size - 1), 0.0), size - 1.001)
        z = min(max(((points[m, 2] - centre[2]) / half + 1) * 0.5 * (size - 1), 0.0), size - 1.001)
        i, j, k = int(x), int(y), int(z)
        fx, fy, fz = x - i, y - j, z - k
        for c in range(4):
            near = (grid[k, j, i, c] * (1 - fx) + grid[k, j, i + 1, c] * fx) * (1 - fy) + (
                grid[k, j + 1, i, c] * (1 - fx) + grid[k, j + 1, i + 1, c] * fx
            ) * fy
            far = (grid[k + 1, j, i, c] * (1 - fx) + grid[k + 1, j, i + 1, c] * fx) * (1 - fy) + (
                grid[k + 1, j + 1, i, c] * (1 - fx) + grid[k + 1, j + 1, i + 1, c] * fx
            ) * fy
            out[m, c] = near * (1 - fz) + far * fz

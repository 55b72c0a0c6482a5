"""Soft shadows without ray tracing: what every vertex sees of the sky and of each light.

The posed head is rasterised orthographically from directions spread over the sphere; a vertex sees
a direction when it is not behind the depth picture of that direction. The share of the visible
sky gives ambient occlusion, the share of the directions around a light gives the soft shadow of a
lamp about 40° wide. Per vertex that is fine enough for chins, nostrils, ears and open mouths.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit
from numpy.typing import NDArray

from head360.rendering import raster

Floats = NDArray[np.float32]

DIRECTIONS = 64
SIZE = 176  # pixels of a depth picture: about 2 mm on a head
_BIAS, _SOFT = 0.0015, 0.003  # metres: where occlusion starts and where it is complete
_SPREAD = 14.0  # concentration of a lamp's directions


@functools.cache
def sphere(count: int = DIRECTIONS) -> Floats:
    """(count, 3) float32 unit directions, evenly spread (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    height = 1 - 2 * k / count
    turn = np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], 1).astype(np.float32)


def visibility(vertices: Floats, normals: Floats, faces: NDArray[np.int32]) -> Floats:
    """(N, DIRECTIONS) float32: 1 where a vertex sees the direction, 0 where the head hides it.

    Args:
        vertices, normals: (N, 3) float32 metres, head space; unit normals.
        faces: (F, 3) int32 what casts shadows; leave alpha-tested triangles out.
    """
    directions = sphere()
    low, high = vertices.min(0), vertices.max(0)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    screens = np.empty((len(directions), len(vertices), 4), dtype=np.float32)
    for screen, direction in zip(screens, directions, strict=True):
        helper = (0.0, 0.0, 1.0) if abs(direction[1]) > 0.9 else (0.0, 1.0, 0.0)
        right = np.cross(helper, direction)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(direction, right), -direction], 1).astype(np.float32)
        local = (vertices - centre) @ axes / radius
        screen[:, :2] = (local[:, :2] * 0.49 + 0.5) * SIZE
        screen[:, 2] = (local[:, 2] + 2.0) * radius
        screen[:, 3] = 1.0
    depth = raster.rasterize(screens, faces, SIZE, SIZE).depth
    return _look_up(screens, depth, np.ascontiguousarray(normals), directions, _BIAS, _SOFT)


def occlusion(
    vertices: Floats, normals: Floats, faces: NDArray[np.int32], lights: Floats
) -> Floats:
    """(N, 1 + L) float32 in [0, 1]: visible share of the sky, then of each of L lights.

    Args:
        vertices, normals, faces: as in :func:`visibility`.
        lights: (L, 3) unit vectors towards the lights.
    """
    directions = sphere()
    seen = visibility(vertices, normals, faces)
    facing = np.maximum(normals @ directions.T, 0.0)
    sky = (seen * facing).sum(1) / np.maximum(facing.sum(1), 1e-6)
    weights = np.exp(_SPREAD * (directions @ lights.T - 1.0))
    lamps = seen @ (weights / weights.sum(0))
    return np.concatenate([sky[:, None], lamps], 1).astype(np.float32)


@njit(cache=True)
def _look_up(screens, depth, normals, directions, bias, soft):  # type: ignore[no-untyped-def]
    views, count = screens.shape[0], screens.shape[1]
    size = depth.shape[1]
    seen = np.ones((count, views), dtype=np.float32)
    for view in range(views):
        for n in range(count):
            cosine = (
                normals[n, 0] * directions[view, 0]
                + normals[n, 1] * directions[view, 1]
                + normals[n, 2] * directions[view, 2]
            )
            # Surfaces turned away are dark by their cosine; calling them shadowed as well would
            # cut off the wrapped light around the terminator.
            if cosine <= 0.0:
                continue
            x = screens[view, n, 0] - 0.5
            y = screens[view, n, 1] - 0.5
            x0 = min(max(int(x), 0), size - 2)
            y0 = min(max(int(y), 0), size - 2)
            fx, fy = x - x0, y - y0
            z = screens[view, n, 2]
            # The slope of the surface within one pixel must not shadow itself.
            slack = bias * (1.0 + min(3.0, 0.5 / (cosine + 0.05)))
            total = 0.0
            for corner in range(4):
                dx, dy = corner % 2, corner // 2
                behind = (z - depth[view, y0 + dy, x0 + dx] - slack) / soft
                weight = (fx if dx else 1.0 - fx) * (fy if dy else 1.0 - fy)
                total += weight * (1.0 - min(max(behind, 0.0), 1.0))
            # Fade in from the terminator so that grazing directions cannot flicker.
            trust = min(1.0, cosine * 4.0)
            seen[n, view] = 1.0 - trust * (1.0 - total)
    return seen

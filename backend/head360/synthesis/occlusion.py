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
from head360.synthesis.lights import LIGHTS, Light

Floats = NDArray[np.float32]

DIRECTIONS = 64
SIZE = 176  # pixels of a depth picture: about 2 mm on a head
HARD = 60.0  # concentration from which a lamp is seen through directions of its own
_RAYS, _CONE = 6, 0.06  # how many, and their spread in radians
_BIAS, _SOFT = 0.0015, 0.003  # metres: where occlusion starts and where it is complete


@functools.cache
def sphere(count: int = DIRECTIONS) -> Floats:
    """(count, 3) float32 unit directions, evenly spread (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    height = 1 - 2 * k / count
    turn = np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], 1).astype(np.float32)


@functools.cache
def directions() -> Floats:
    """(DIRECTIONS + …, 3) float32: :func:`sphere`, then a narrow cone for every hard lamp."""
    return np.concatenate([sphere(), *(_cone(lamp) for lamp in _hard_lamps())]).astype(np.float32)


def _hard_lamps() -> list[Floats]:
    return [
        towards
        for light in LIGHTS.values()
        for towards, sharp in zip(light.directions, light.sharpness, strict=True)
        if sharp >= HARD
    ]


def _cone(towards: Floats) -> Floats:
    """(_RAYS, 3) unit directions a few degrees around ``towards``."""
    turn = np.pi * (1 + 5**0.5) * np.arange(_RAYS)
    away = _CONE * np.sqrt((np.arange(_RAYS) + 0.5) / _RAYS)
    right = np.cross(towards, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    up = np.cross(right, towards)
    rays = towards + (away * np.cos(turn))[:, None] * right + (away * np.sin(turn))[:, None] * up
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def visibility(
    vertices: Floats,
    normals: Floats,
    faces: NDArray[np.int32],
    *,
    casters: Floats | None = None,
    cutout: raster.Cutout | None = None,
    bias: float = _BIAS,
    soft: float = _SOFT,
) -> Floats:
    """(N, D) float32: 1 where a vertex sees one of ``directions()``, 0 where it is hidden.

    Args:
        vertices, normals: (N, 3) float32 metres, head space; unit normals.
        faces: (F, 3) int32 what casts shadows, into ``casters``.
        casters: (M, 3) float32 metres; None where the vertices themselves cast.
        cutout: alpha test of ``faces``; without one they are opaque.
        bias, soft: metres behind a caster where its shadow starts, and how far on it is complete.
    """
    towards = directions()
    if casters is None:
        casters, low, high = vertices, vertices.min(0), vertices.max(0)
    else:
        low = np.minimum(vertices.min(0), casters.min(0))
        high = np.maximum(vertices.max(0), casters.max(0))
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    screens = _screens(casters, centre, radius)
    depth = raster.rasterize(screens, faces, SIZE, SIZE, cutout).depth
    seers = screens if casters is vertices else _screens(vertices, centre, radius)
    return _look_up(seers, depth, np.ascontiguousarray(normals), towards, bias, soft)


def _screens(vertices: Floats, centre: Floats, radius: float) -> Floats:
    """(D, N, 4) orthographic screens looking against each direction."""
    screens = np.empty((len(directions()), len(vertices), 4), dtype=np.float32)
    centred = vertices - centre
    for screen, axes in zip(screens, _axes(), strict=True):
        local = centred @ axes / radius
        screen[:, :2] = (local[:, :2] * 0.49 + 0.5) * SIZE
        screen[:, 2] = (local[:, 2] + 2.0) * radius
        screen[:, 3] = 1.0
    return screens


@functools.cache
def _axes() -> list[Floats]:
    """For each of ``directions()`` (3, 3) float32: right, up and away as columns."""
    out = []
    for direction in directions():
        helper = (0.0, 0.0, 1.0) if abs(direction[1]) > 0.9 else (0.0, 1.0, 0.0)
        right = np.cross(helper, direction)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(direction, right), -direction], 1)
        out.append(axes.astype(np.float32))
    return out


def weigh(seen: Floats, normals: Floats, light: Light) -> Floats:
    """(N, 1 + L) float32 in [0, 1]: visible share of the ambient, then of each of L lamps.

    Args:
        seen: (N, D) of :func:`visibility`.
        normals: (N, 3) float32 unit.
        light: one of ``LIGHTS``, whose hard lamps have directions of their own.
    """
    everywhere = sphere()
    around = np.ascontiguousarray(seen[:, :DIRECTIONS])
    facing = np.maximum(normals @ everywhere.T, 0.0)
    if light.overhead > 0:
        above = np.maximum(everywhere[:, 1] + 0.3, 0.0) / 1.3
        facing *= 1.0 - light.overhead + light.overhead * above
    sky = (around * facing).sum(1) / np.maximum(facing.sum(1), 1e-6)
    weights = np.exp(light.sharpness * (everywhere @ light.directions.T - 1.0))
    lamps = around @ (weights / weights.sum(0))
    for lamp in np.flatnonzero(light.sharpness >= HARD):
        cosine = directions()[DIRECTIONS:] @ light.directions[lamp]
        own = DIRECTIONS + np.flatnonzero(cosine > np.cos(2 * _CONE))
        lamps[:, lamp] = seen[:, own].mean(1)
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

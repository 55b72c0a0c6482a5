"""Triangles of a scalar field's level set: marching cubes, floaters removed, outside out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Field = Callable[[NDArray[np.float32]], NDArray[np.floating]]

_CHUNK = 1 << 18  # points per call of the field


def sample_field(
    field: Field, resolution: int, lower: ArrayLike, upper: ArrayLike
) -> NDArray[np.float32]:
    """(R, R, R) float32 values on a grid that includes both corners; axes x, y, z.

    ``field`` maps (M, 3) float32 points to (M,) values.
    """
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    axes = [np.linspace(low[k], high[k], resolution, dtype=np.float32) for k in range(3)]
    grid = np.empty((resolution,) * 3, dtype=np.float32)
    slab = max(1, _CHUNK // resolution**2)
    for first in range(0, resolution, slab):
        x = axes[0][first : first + slab]
        points = np.stack(np.meshgrid(x, axes[1], axes[2], indexing="ij"), axis=-1)
        values = np.asarray(field(points.reshape(-1, 3)))
        grid[first : first + slab] = values.reshape(points.shape[:3])
    return grid


def extract(
    field: Field | NDArray[np.floating],
    level: float,
    *,
    resolution: int = 128,
    lower: ArrayLike = (-1.0, -1.0, -1.0),
    upper: ArrayLike = (1.0, 1.0, 1.0),
    keep_fraction: float = 0.02,
    inside_above: bool = True,
) -> tuple[Floats, Ints]:
    """Level set as triangles, counter-clockwise seen from outside.

    Args:
        field: function of (M, 3) points, or a grid (X, Y, Z) of values.
        level: the value on the surface.
        resolution: grid points per axis where ``field`` is a function.
        lower, upper: (3,) corners of the box that the grid spans; vertices come in its frame/unit.
        keep_fraction: components with fewer triangles than this fraction of the largest are
            floaters and dropped; 0 keeps all.
        inside_above: larger values are inside (density); False for signed distances.

    Returns:
        (N, 3) float32 vertices and (F, 3) int32 faces; both empty where the level is not crossed.
        The surface is closed where it meets the box.
    """
    values = (
        sample_field(field, resolution, lower, upper)
        if callable(field)
        else np.asarray(field, dtype=np.float32)
    )
    if values.ndim != 3 or min(values.shape) < 2:
        raise ValueError(f"expected a grid of at least 2 points per axis, got {values.shape}")
    if not np.isfinite(values).all():
        values = np.nan_to_num(values)
    signed = (values - level) if inside_above else (level - values)
    # A border just outside the level closes the surface at the box; it is clamped back below.
    outside = -max(float(np.abs(signed).max()), 1e-6) * 1e-3
    padded = np.pad(signed, 1, constant_values=outside)
    if padded.max() <= 0.0:
        return np.zeros((0, 3), dtype=np.float32), np.zeros((0, 3), dtype=np.int32)
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="descent")
    last = np.array(values.shape) - 1.0
    vertices = np.clip(vertices - 1.0, 0.0, last)
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    vertices = low + vertices / last * (high - low)
    faces = outward(vertices, np.asarray(faces, dtype=np.int32))
    if keep_fraction > 0.0:
        vertices, faces = drop_floaters(vertices, faces, keep_fraction)
    return vertices.astype(np.float32), faces.astype(np.int32)


def drop_floaters(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], keep_fraction: float
) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    """Remove components with fewer than ``keep_fraction`` of the largest one's triangles."""
    if not len(faces):
        return vertices, faces
    label = face_components(faces, len(vertices))
    sizes = np.bincount(label)
    kept = faces[sizes[label] >= keep_fraction * sizes.max()]
    used, renumbered = np.unique(kept, return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3)


def solid_components(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], keep_fraction: float
) -> tuple[NDArray[np.floating], NDArray[np.integer], int]:
    """Only what is seen from outside: floaters and the walls of inner cavities are dropped.

    Args:
        vertices, faces: (N, 3) and (F, 3), counter-clockwise seen from outside.
        keep_fraction: of the largest component's triangles that another one needs to stay.

    Returns:
        vertices, faces, and how many components were dropped.
    """
    if not len(faces):
        return vertices, faces, 0
    label = face_components(faces, len(vertices))
    sizes = np.bincount(label)
    p = np.asarray(vertices, dtype=np.float64)[faces]
    volume = np.bincount(label, np.einsum("fc,fc->f", p[:, 0], np.cross(p[:, 1], p[:, 2])))
    keep = (sizes >= keep_fraction * sizes.max()) & (volume > 0)
    used, renumbered = np.unique(faces[keep[label]], return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3), int((~keep).sum())


def face_components(faces: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """(F,) number from 0 of the connected component of each triangle; ``count`` vertices."""
    pairs = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sp.coo_matrix(
        (np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count)
    )
    _, label = connected_components(graph, directed=False)
    return np.unique(label[faces[:, 0]], return_inverse=True)[1].reshape(-1)


def open_edges(faces: NDArray[np.integer]) -> int:
    """Edges that do not have exactly two triangles: 0 for a watertight mesh."""
    edges = np.sort(np.concatenate([faces[:, :2], faces[:, 1:], faces[:, ::2]]), axis=1)
    key = edges[:, 0].astype(np.int64) * (int(edges.max(initial=0)) + 1) + edges[:, 1]
    return int((np.unique(key, return_counts=True)[1] != 2).sum())


def signed_volume(vertices: ArrayLike, faces: NDArray[np.integer]) -> float:
    """Volume enclosed by a closed mesh; positive where faces are counter-clockwise outside."""
    p = np.asarray(vertices, dtype=np.float64)[faces]
    return float(np.einsum("fc,fc->", p[:, 0], np.cross(p[:, 1], p[:, 2])) / 6.0)


def outward(vertices: NDArray[np.floating], faces: Ints) -> Ints:
    """Flip all faces where the mesh encloses a negative volume."""
    return faces if signed_volume(vertices, faces) >= 0.0 else np.ascontiguousarray(faces[:, ::-1])


def vertex_normals(vertices: ArrayLike, faces: NDArray[np.integer]) -> Floats:
    """(N, 3) float32 unit normals, area-weighted; +Y where a vertex has no face."""
    v = np.asarray(vertices, dtype=np.float64)
    p = v[faces]
    face = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    total = np.stack(
        [
            np.bincount(faces.reshape(-1), np.repeat(face[:, k], 3), minlength=len(v))
            for k in range(3)
        ],
        axis=1,
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    unit = np.where(length > 1e-20, total / np.maximum(length, 1e-20), (0.0, 1.0, 0.0))
    return unit.astype(np.float32)

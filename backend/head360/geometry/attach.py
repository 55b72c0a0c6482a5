"""Attach free points to a mesh: the closest triangle, its weights, and the offset from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Attachment:
    """Where P points sit on a mesh.

    Attributes:
        face: (P,) int64 triangle of each point.
        bary: (P, 3) float64 weights of the closest point, non-negative, sum 1.
        height: (P,) float64 signed distance along the triangle's normal (outside positive).
        distance: (P,) float64 Euclidean distance to the closest point.
    """

    face: NDArray[np.int64]
    bary: Floats
    height: Floats
    distance: Floats


def closest_on_triangle(points: Floats, triangles: Floats) -> Floats:
    """Barycentric weights (P, 3) of the point closest to ``points`` (P, 3) on (P, 3, 3) triangles.

    After Ericson, Real-Time Collision Detection (2005), §5.1.5, written branch-free: the interior
    solution where it is inside, else the best of the three clamped edges.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d20, d21 = (ap * ab).sum(1), (ap * ac).sum(1)
    denominator = np.maximum(d00 * d11 - d01 * d01, 1e-24)
    v = (d11 * d20 - d01 * d21) / denominator
    w = (d00 * d21 - d01 * d20) / denominator
    best = np.stack([1 - v - w, v, w], 1)
    outside = best.min(1) < 0
    distance = np.full(len(points), np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, edge = triangles[:, i], triangles[:, j] - triangles[:, i]
        t = np.clip(
            ((points - start) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-24), 0, 1
        )
        d = ((points - start - t[:, None] * edge) ** 2).sum(1)
        better = outside & (d < distance)
        weights = np.zeros((len(points), 3))
        weights[:, i], weights[:, j] = 1 - t, t
        best[better] = weights[better]
        distance = np.where(better, d, distance)
    return best


def attach(
    points: Floats, vertices: Floats, faces: NDArray[np.integer], nearest: int = 12
) -> Attachment:
    """Find the closest triangle of each point among the ``nearest`` by centroid.

    Args:
        points: (P, 3); vertices: (N, 3) in the same frame; faces: (F, 3).
    """
    triangles = np.asarray(vertices, dtype=np.float64)[faces]
    _, candidates = cKDTree(triangles.mean(1)).query(points, k=min(nearest, len(faces)))
    best_distance = np.full(len(points), np.inf)
    best_face = np.zeros(len(points), dtype=np.int64)
    best_bary = np.zeros((len(points), 3))
    for column in range(candidates.shape[1]):
        index = candidates[:, column]
        bary = closest_on_triangle(points, triangles[index])
        foot = (bary[:, :, None] * triangles[index]).sum(1)
        distance = np.linalg.norm(points - foot, axis=1)
        better = distance < best_distance
        best_distance[better], best_face[better] = distance[better], index[better]
        best_bary[better] = bary[better]
    chosen = triangles[best_face]
    normal = np.cross(chosen[:, 1] - chosen[:, 0], chosen[:, 2] - chosen[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-24)
    foot = (best_bary[:, :, None] * chosen).sum(1)
    height = ((points - foot) * normal).sum(1)
    return Attachment(best_face, best_bary, height, best_distance)


def vertex_normals(vertices: Floats, faces: NDArray[np.integer]) -> NDArray[np.float32]:
    """(N, 3) float32 area-weighted unit normals; zero-area neighbourhoods point up."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3), dtype=np.float64)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(
                faces[:, corner], weights=face_normals[:, axis], minlength=len(vertices)
            )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-20, normals / np.maximum(length, 1e-20), [0.0, 1.0, 0.0])
    return normals.astype(np.float32)

"""Half-edge collapse to a SUBSET of the vertices: every per-vertex array restricts by index.

Quadric error (Garland & Heckbert, SIGGRAPH 1997) summed over several shapes of the same topology,
so that what only appears in an expression keeps its vertices too. UV seams, part borders and open
boundaries collapse along themselves or not at all; locked vertices stay; no triangle flips in any
of the shapes or in UV space. Deterministic: ties are broken by the vertex id.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_BORDER_WEIGHT = 10.0  # of a plane through a feature edge, relative to a face plane
_LENGTH_WEIGHT = 2e-3  # of the squared edge length: spreads vertices over flat skin that slides
_MIN_COS = 0.25  # a face may turn by at most 75 degrees at rest …
_MIN_QUALITY = 0.06  # … and not become a sliver (1 is equilateral)


@dataclass(frozen=True)
class Decimated:
    """Result of :func:`decimate`.

    Attributes:
        kept: (n,) ids of the surviving vertices, ascending.
        triangles: (f, 3) int32 into ``kept``.
        triangle_uvs: (f, 3) int32 into the original uvs.
        source: (f,) original triangle of each surviving one (carries part and material).
    """

    kept: NDArray[np.int64]
    triangles: NDArray[np.int32]
    triangle_uvs: NDArray[np.int32]
    source: NDArray[np.int64]


def _add_planes(
    quadric: Array, corners: NDArray[np.integer], normal: Array, point: Array, weight: Array
) -> None:
    """Add planes (F, S) through ``point`` to the (N, S, 4, 4) quadrics of their corners."""
    offset = -(normal * point).sum(axis=2, keepdims=True)
    plane = np.concatenate([normal, offset], axis=2)
    outer = np.einsum("fsa,fsb,fs->fsab", plane, plane, weight, optimize=True)
    for k in range(corners.shape[1]):
        np.add.at(quadric, corners[:, k], outer)


class _Mesh:
    """The shrinking mesh. Vertex ids never change; dead faces are None."""

    def __init__(
        self,
        shapes: Array,
        triangles: NDArray[np.integer],
        triangle_uvs: NDArray[np.integer],
        uvs: Array,
        parts: NDArray[np.integer],
    ) -> None:
        self.shapes = np.ascontiguousarray(shapes.transpose(1, 0, 2), dtype=np.float64)
        self.faces: list[list[int] | None] = triangles.tolist()
        self.face_uvs: list[list[int]] = triangle_uvs.tolist()
        self.uvs = uvs.astype(np.float64)
        self.parts: list[int] = parts.tolist()
        self.around: list[set[int]] = [set() for _ in range(len(self.shapes))]
        for f, corners in enumerate(triangles.tolist()):
            for corner in corners:
                self.around[corner].add(f)
        self._quadrics()

    def _quadrics(self) -> None:
        triangles = np.array(self.faces)
        p = self.shapes[triangles]  # (F, 3, S, 3)
        count, s = self.shapes.shape[:2]
        homogeneous = np.concatenate([self.shapes, np.ones((count, s, 1))], axis=2)
        self.points = np.einsum("nsa,nsb->nsab", homogeneous, homogeneous).reshape(count, -1)
        quadric = np.zeros((count, s, 4, 4))
        cross = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        length = np.maximum(np.linalg.norm(cross, axis=2, keepdims=True), 1e-20)
        _add_planes(quadric, triangles, cross / length, p[:, 0], length[:, :, 0] / 6.0)
        edges: dict[tuple[int, int], list[int]] = {}
        for f, corners in enumerate(triangles.tolist()):
            for k in range(3):
                a, b = corners[k], corners[(k + 1) % 3]
                edges.setdefault((min(a, b), max(a, b)), []).append(f)
        border = [(a, b, f) for (a, b), fs in edges.items() if self._feature(a, b, fs) for f in fs]
        if border:
            ids = np.array(border)
            along = self.shapes[ids[:, 1]] - self.shapes[ids[:, 0]]
            side = np.cross(along, cross[ids[:, 2]])
            side /= np.maximum(np.linalg.norm(side, axis=2, keepdims=True), 1e-20)
            weight = _BORDER_WEIGHT * (along**2).sum(axis=2) / 6.0
            _add_planes(quadric, ids[:, :2], side, self.shapes[ids[:, 0]], weight)
        self.quadric = quadric.reshape(count, -1)

    def _corner_uv(self, face: int, vertex: int) -> int:
        corners = self.faces[face]
        assert corners is not None
        return self.face_uvs[face][corners.index(vertex)]

    def _feature(self, a: int, b: int, faces: list[int]) -> bool:
        """Is the edge an open boundary, a part border or a uv seam?"""
        if len(faces) != 2 or self.parts[faces[0]] != self.parts[faces[1]]:
            return True
        return any(self._corner_uv(faces[0], v) != self._corner_uv(faces[1], v) for v in (a, b))

    def ring(self, u: int) -> list[int]:
        """Sorted neighbours of ``u``."""
        found: set[int] = set()
        for f in self.around[u]:
            found.update(self.faces[f])  # type: ignore[arg-type]
        found.discard(u)
        return sorted(found)

    def costs(self, u: int, ring: list[int]) -> Array:
        """Quadric error of moving ``u`` onto each vertex of ``ring``, unit metre⁴."""
        moved = self.points[ring]
        error = moved @ self.quadric[u] + np.einsum("rq,rq->r", moved, self.quadric[ring])
        squared = ((self.shapes[ring] - self.shapes[u]) ** 2).sum(axis=2).mean(axis=1)
        return np.maximum(error, 0.0) + _LENGTH_WEIGHT * squared**2

    def allowed(self, u: int, v: int) -> dict[int, int] | None:
        """The uv corner map of the collapse u → v, or None where it must not happen."""
        shared = self.around[u] & self.around[v]
        if not 1 <= len(shared) <= 2:
            return None
        feature_edge = self._feature(u, v, sorted(shared))
        mapping: dict[int, int] = {}
        for f in shared:
            source, target = self._corner_uv(f, u), self._corner_uv(f, v)
            if mapping.setdefault(source, target) != target:
                return None
        survivors = self.around[u] - shared
        if any(self._corner_uv(f, u) not in mapping for f in survivors):
            return None
        if (
            len({self.parts[f] for f in self.around[u]}) > 1
            and len({self.parts[f] for f in shared}) < 2
        ):
            return None
        ring = set(self.ring(u))
        if len(ring) != len(self.around[u]) and (len(shared) != 1 or not feature_edge):
            return None  # u lies on an open boundary, the edge does not
        if len(ring & set(self.ring(v))) != len(shared):
            return None
        return mapping if self._stays_sound(u, v, sorted(survivors), mapping) else None

    def _stays_sound(self, u: int, v: int, survivors: list[int], mapping: dict[int, int]) -> bool:
        if not survivors:
            return False
        old = np.array([self.faces[f] for f in survivors])
        new = np.where(old == u, v, old)
        triples = {tuple(sorted(row)) for row in new.tolist()}
        present = {tuple(sorted(self.faces[f])) for f in self.around[v]}  # type: ignore[type-var, arg-type]
        if len(triples) != len(survivors) or triples & present:
            return False
        before, after = self.shapes[old], self.shapes[new]
        n0 = np.cross(before[:, 1] - before[:, 0], before[:, 2] - before[:, 0])
        n1 = np.cross(after[:, 1] - after[:, 0], after[:, 2] - after[:, 0])
        dot = (n0 * n1).sum(axis=2)
        length = np.linalg.norm(n1, axis=2)
        if (dot < 0).any() or (
            dot[:, 0] < _MIN_COS * np.linalg.norm(n0[:, 0], axis=1) * length[:, 0]
        ).any():
            return False
        rest = after[:, :, 0]
        edges = ((rest - np.roll(rest, 1, axis=1)) ** 2).sum(axis=(1, 2))
        if (2 * np.sqrt(3) * length[:, 0] < _MIN_QUALITY * edges).any():
            return False
        uv_old = np.array([self.face_uvs[f] for f in survivors])
        uv_new = np.where(
            old == u, [[mapping.get(i, i) for i in row] for row in uv_old.tolist()], uv_old
        )
        return bool((self._uv_area(uv_old) * self._uv_area(uv_new) > 0).all())

    def _uv_area(self, corners: NDArray[np.integer]) -> Array:
        p = self.uvs[corners]
        a, b = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

    def collapse(self, u: int, v: int, mapping: dict[int, int]) -> None:
        """Move ``u`` onto ``v``; faces that contain both die."""
        for f in sorted(self.around[u]):
            corners = self.faces[f]
            assert corners is not None
            if v in corners:
                for corner in corners:
                    if corner != u:
                        self.around[corner].discard(f)
                self.faces[f] = None
            else:
                k = corners.index(u)
                corners[k] = v
                self.face_uvs[f][k] = mapping[self.face_uvs[f][k]]
                self.around[v].add(f)
        self.around[u] = set()
        self.quadric[v] += self.quadric[u]


def decimate(
    shapes: Array,
    triangles: NDArray[np.integer],
    triangle_uvs: NDArray[np.integer],
    uvs: Array,
    triangle_parts: NDArray[np.integer],
    vertex_groups: NDArray[np.integer],
    budgets: NDArray[np.integer],
    importance: Array,
    locked: NDArray[np.integer],
) -> Decimated:
    """Collapse until every group of vertices is within its budget or nothing more is allowed.

    Args:
        shapes: (S, N, 3) positions, metres; row 0 is the rest shape.
        triangles, triangle_uvs: (F, 3); ``uvs`` (U, 2); ``triangle_parts`` (F,).
        vertex_groups: (N,) group of each vertex; ``budgets`` (G,) vertices to keep per group.
        importance: (N,) factor on the cost of removing a vertex.
        locked: vertex ids that must stay.
    """
    mesh = _Mesh(shapes, triangles, triangle_uvs, uvs, triangle_parts)
    count = len(mesh.shapes)
    alive = np.array([bool(faces) for faces in mesh.around])
    left = np.bincount(vertex_groups[alive], minlength=len(budgets))
    frozen = np.zeros(count, dtype=bool)
    frozen[locked] = True
    version = [0] * count
    heap: list[tuple[float, int, int, int]] = []

    def push(u: int) -> None:
        version[u] += 1
        if frozen[u] or not mesh.around[u] or left[vertex_groups[u]] <= budgets[vertex_groups[u]]:
            return
        ring = mesh.ring(u)
        for cost, v in zip((mesh.costs(u, ring) * importance[u]).tolist(), ring, strict=True):
            heapq.heappush(heap, (cost, u, v, version[u]))

    for u in np.flatnonzero(alive).tolist():
        push(u)
    while heap:
        _, u, v, stamp = heapq.heappop(heap)
        group = vertex_groups[u]
        if stamp != version[u] or left[group] <= budgets[group]:
            continue
        mapping = mesh.allowed(u, v)
        if mapping is None:
            continue
        mesh.collapse(u, v, mapping)
        version[u] += 1
        left[group] -= 1
        push(v)
        for neighbour in mesh.ring(v):
            push(neighbour)

    source = np.array([f for f, corners in enumerate(mesh.faces) if corners is not None])
    faces = np.array([mesh.faces[f] for f in source])
    kept = np.unique(faces)
    return Decimated(
        kept=kept,
        triangles=np.searchsorted(kept, faces).astype(np.int32),
        triangle_uvs=np.array([mesh.face_uvs[f] for f in source], dtype=np.int32),
        source=source,
    )

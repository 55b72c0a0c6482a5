"""Hair follows expressions: it moves with the skin beneath and gives way to skin that comes up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from head360.geometry.attach import Attachment

Floats = NDArray[np.float32]

_FALLOFF = 0.012  # metres: hair twice as far from the skin hardly notices it
_CELL = 0.010  # metres, of the grid in which posed skin is looked up
_REACH = 0.020  # metres from the skin beyond which it cannot have pierced hair
_GAP = 0.0008  # metres that hair keeps from posed skin
_SLACK = 0.002  # metres hair may have been under the plane of a triangle at rest
_NOTICED = 0.0003  # metres of motion below which skin covers nothing


@dataclass(frozen=True)
class Binding:
    """Where M hair vertices hang on the skin.

    Attributes:
        corners: (M, 3) int32 vertex ids of the nearest skin triangle.
        bary: (M, 3) float32 weights of the nearest point.
        weight: (M,) float32 how much of the skin's motion is taken, 1 at the skin.
        distance: (M,) float32 metres to the skin of the neutral face.
    """

    corners: NDArray[np.int32]
    bary: Floats
    weight: Floats
    distance: Floats


class _Worn(Protocol):
    @property
    def positions(self) -> Floats: ...
    @property
    def binding(self) -> Binding: ...


def bind(place: Attachment, skin_faces: NDArray[np.int32]) -> Binding:
    """A binding from attachments to (F, 3) ``skin_faces``."""
    weight = np.exp(-((place.distance / _FALLOFF) ** 2))
    weight[weight < 0.01] = 0.0
    return Binding(
        skin_faces[place.face].astype(np.int32),
        place.bary.astype(np.float32),
        weight.astype(np.float32),
        place.distance.astype(np.float32),
    )


def follow(worn: _Worn, neutral: Floats, posed: Floats, skin_faces: NDArray[np.int32]) -> Floats:
    """Hair on the posed head.

    Args:
        worn: hair on the neutral head (a ``WornHair``).
        neutral, posed: (N, 3) float32 vertices of the identity that wears it, metres, head space.
        skin_faces: (F, 3) the triangles that ``worn`` was fitted to.

    Returns:
        (M, 3) float32 metres; ``worn.positions`` itself where no skin has moved.
    """
    moved = np.zeros(len(neutral), dtype=np.bool_)
    shift = posed - neutral
    moved[np.unique(skin_faces)] = True
    moved &= (np.abs(shift) > 1e-5).any(1)
    if not moved.any():
        return worn.positions
    binding = worn.binding
    out = worn.positions.copy()
    _carry(out, binding.corners, binding.bary, binding.weight, shift)
    moved &= (np.abs(shift) > _NOTICED).any(1)
    faces = skin_faces[moved[skin_faces].any(1)]
    if len(faces) == 0:
        return out
    low = posed[faces].min((0, 1)) - _REACH
    high = posed[faces].max((0, 1)) + _REACH
    size = np.maximum(np.ceil((high - low) / _CELL).astype(np.int64), 1)
    rest_centres, rest_normals, _ = _planes(neutral, faces)
    centres, normals, radius = _planes(posed, faces)
    start, order = _cells(centres, low, size)
    _push(
        out, worn.positions, rest_centres, rest_normals, centres, normals, low, size, start, order,
        radius,
    )  # fmt: skip
    return out


@njit(cache=True)
def _carry(out, corners, bary, weight, shift):  # type: ignore[no-untyped-def]
    for m in range(out.shape[0]):
        if weight[m] > 0.0:
            for k in range(3):
                move = 0.0
                for c in range(3):
                    move += bary[m, c] * shift[corners[m, c], k]
                out[m, k] += weight[m] * move


@njit(cache=True)
def _planes(vertices, faces):  # type: ignore[no-untyped-def]
    """Centroids, unit normals and circumscribed radii of triangles."""
    count = faces.shape[0]
    centres = np.empty((count, 3), dtype=np.float32)
    normals = np.empty((count, 3), dtype=np.float32)
    radius = np.empty(count, dtype=np.float32)
    for f in range(count):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        size = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
        normals[f, 0], normals[f, 1], normals[f, 2] = nx / size, ny / size, nz / size
        largest = 0.0
        for k in range(3):
            centres[f, k] = (a[k] + b[k] + c[k]) / 3.0
        for corner in range(3):
            away = 0.0
            for k in range(3):
                d = vertices[faces[f, corner], k] - centres[f, k]
                away += d * d
            largest = max(largest, away)
        radius[f] = np.sqrt(largest)
    return centres, normals, radius


@njit(cache=True)
def _cells(centres, low, size):  # type: ignore[no-untyped-def]
    """Triangles sorted into cells: starts (cells + 1,) and order (F,)."""
    cells = size[0] * size[1] * size[2]
    start = np.zeros(cells + 1, dtype=np.int64)
    cell = np.empty(centres.shape[0], dtype=np.int64)
    for f in range(centres.shape[0]):
        i = min(max(int((centres[f, 0] - low[0]) / _CELL), 0), size[0] - 1)
        j = min(max(int((centres[f, 1] - low[1]) / _CELL), 0), size[1] - 1)
        k = min(max(int((centres[f, 2] - low[2]) / _CELL), 0), size[2] - 1)
        cell[f] = (k * size[1] + j) * size[0] + i
        start[cell[f] + 1] += 1
    for c in range(cells):
        start[c + 1] += start[c]
    order = np.empty(centres.shape[0], dtype=np.int64)
    cursor = start[:-1].copy()
    for f in range(centres.shape[0]):
        order[cursor[cell[f]]] = f
        cursor[cell[f]] += 1
    return start, order


@njit(cache=True)
def _push(  # type: ignore[no-untyped-def]
    out, rest, rest_centres, rest_normals, centres, normals, low, size, start, order, radius
):
    """Move points that posed skin has covered out along the normal of its nearest triangle."""
    for m in range(out.shape[0]):
        x, y, z = out[m, 0], out[m, 1], out[m, 2]
        i = int(np.floor((x - low[0]) / _CELL))
        j = int(np.floor((y - low[1]) / _CELL))
        k = int(np.floor((z - low[2]) / _CELL))
        if i < 0 or j < 0 or k < 0 or i >= size[0] or j >= size[1] or k >= size[2]:
            continue
        best = _REACH * _REACH
        face = -1
        for kk in range(max(k - 2, 0), min(k + 3, size[2])):
            for jj in range(max(j - 2, 0), min(j + 3, size[1])):
                row = (kk * size[1] + jj) * size[0]
                for at in range(
                    start[row + max(i - 2, 0)], start[row + min(i + 3, size[0]) - 1 + 1]
                ):
                    f = order[at]
                    dx, dy, dz = x - centres[f, 0], y - centres[f, 1], z - centres[f, 2]
                    away = dx * dx + dy * dy + dz * dz
                    if away < best:
                        best, face = away, f
        if face < 0:
            continue
        height = (
            (x - centres[face, 0]) * normals[face, 0]
            + (y - centres[face, 1]) * normals[face, 1]
            + (z - centres[face, 2]) * normals[face, 2]
        )
        beside = np.sqrt(max(best - height * height, 0.0))
        if height < _GAP and beside < 1.5 * radius[face] + 0.002:
            before = np.float32(0.0)
            for axis in range(3):
                before += (rest[m, axis] - rest_centres[face, axis]) * rest_normals[face, axis]
            # What was a little under a triangle's plane at rest (beside an ear) may stay so.
            aim = min(max(before, -_SLACK), _GAP)
            if height < aim:
                for axis in range(3):
                    out[m, axis] += (aim - height) * normals[face, axis]

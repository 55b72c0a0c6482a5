"""Pictures on surfaces: which point of a mesh each texel shows, and gutters around the charts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from head360.rendering import raster

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Colour = Callable[[Floats, Floats], Floats]

GUTTER = 16  # texels around charts that repeat their border: enough for four mip levels
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Texels:
    """The texels of a square picture that a mesh covers.

    Attributes:
        size: texels per side.
        index: (M,) int64 flat index into (size, size), top row first.
        face: (M,) int32 triangle of each.
        bary: (M, 3) float32 weights of its corners.
    """

    size: int
    index: NDArray[np.int64]
    face: Ints
    bary: Floats

    def blend(self, values: Floats, faces: Ints) -> Floats:
        """(M, C) per-vertex ``values`` (N, C) at the texels; ``faces`` indexes them."""
        corners = faces[self.face]
        return np.asarray(
            sum(values[corners[:, k]] * self.bary[:, k : k + 1] for k in range(3)),
            dtype=np.float32,
        )


def texels(uvs: Floats, face_uvs: Ints, size: int) -> Texels:
    """Texel centres inside a triangle of (U, 2) uvs (origin bottom-left)."""
    screen = np.ones((len(uvs), 4), dtype=np.float32)
    screen[:, 0] = uvs[:, 0] * size
    screen[:, 1] = (1 - uvs[:, 1]) * size
    found = raster.rasterize(screen[None], face_uvs, size, size)
    index = np.flatnonzero(found.face.reshape(-1) >= 0)
    two = found.bary.reshape(-1, 2)[index]
    bary = np.concatenate([two, 1 - two.sum(1, keepdims=True)], 1)
    return Texels(size, index, found.face.reshape(-1)[index], bary)


def bake(
    vertices: Floats,
    faces: Ints,
    uvs: Floats,
    face_uvs: Ints,
    normals: Floats,
    size: int,
    colour: Colour,
    report: Callable[[float], None] | None = None,
) -> NDArray[np.uint8]:
    """Colour of each texel at its own point of the surface.

    Args:
        vertices, normals: (N, 3) float32, in the frame that ``colour`` takes.
        faces, face_uvs: (F, 3) int32; uvs: (U, 2) float32.
        size: texels per side.
        colour: (M, 3) points and unit normals → (M, 3) sRGB in [0, 1].
        report: called with the share that is done; what it raises stops the work.

    Returns:
        (size, size, 3) uint8 sRGB, top row first, charts surrounded by a gutter.
    """
    covered = texels(uvs, face_uvs, size)
    picture = np.zeros((size * size, 3), dtype=np.float32)
    count = len(covered.index)
    for start in range(0, count, _CHUNK):
        if report is not None:
            report(start / count)
        part = slice(start, start + _CHUNK)
        chunk = Texels(size, covered.index[part], covered.face[part], covered.bary[part])
        normal = chunk.blend(normals, faces)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        picture[chunk.index] = colour(chunk.blend(vertices, faces), normal)
    known = np.zeros(size * size, dtype=np.bool_)
    known[covered.index] = True
    return to_bytes(fill_gutter(picture.reshape(size, size, 3), known.reshape(size, size)))


def fill_gutter(picture: Floats, known: NDArray[np.bool_], reach: int = GUTTER) -> Floats:
    """(H, W, C) picture whose unknown texels near known ones repeat those; the rest is the mean."""
    if not known.any() or known.all():
        return picture
    distance, nearest = distance_transform_edt(~known, return_indices=True)
    filled = picture[nearest[0], nearest[1]]
    filled[distance > reach] = picture[known].mean(0)
    return np.asarray(filled)


def to_bytes(picture: Floats) -> NDArray[np.uint8]:
    """[0, 1] → uint8."""
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

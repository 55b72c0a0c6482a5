"""Triangle rasterisation behind one interface: numba on the CPU, nvdiffrast or torch on CUDA.

All implementations follow the same rules, so one test suite serves them all: a pixel is covered
when its centre lies in the triangle (edges included), the nearest fragment wins, equal depth goes
to the lowest triangle index. Triangles with a vertex in front of the near plane are dropped whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from head360.rendering.cameras import BOX_CENTRE, BOX_HALF, Camera

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

NEAR = 0.01  # metres


@dataclass(frozen=True)
class Cutout:
    """Alpha-tested triangles (hair cards, lashes, brows).

    Attributes:
        corner_uvs: (F, 3, 2) float32 texture coordinates, v up, one per triangle corner.
        layers: (F,) int32 mask of each triangle, −1 for opaque ones.
        masks: (L, H, W) uint8, top row first; texels below 128 are holes.
    """

    corner_uvs: Floats
    layers: Ints
    masks: NDArray[np.uint8]


@dataclass(frozen=True)
class Fragments:
    """What is seen at each pixel centre, for V views.

    Attributes:
        face: (V, H, W) int32 triangle index, −1 where nothing is hit.
        bary: (V, H, W, 2) float32 perspective-correct weights of corners 0 and 1.
        depth: (V, H, W) float32 planar depth, +inf where nothing is hit.
    """

    face: Ints
    bary: Floats
    depth: Floats


def perspective_screen(vertices: Floats, camera: Camera, width: int, height: int) -> Floats:
    """Project (N, 3) head-space vertices to (N, 4) screen space: x, y in pixels, depth, 1/w."""
    world2cam = camera.world2cam()
    local = vertices.astype(np.float64) @ world2cam[:3, :3].T + world2cam[:3, 3]
    image = local @ camera.intrinsics.T
    depth = local[:, 2]
    inverse = 1.0 / np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    screen = np.stack(
        [image[:, 0] * inverse * width, image[:, 1] * inverse * height, depth, inverse], axis=1
    )
    return np.ascontiguousarray(screen, dtype=np.float32)


# The six sides of the box. Each row: (column axis, row axis, view axis), signed, and the sign of
# the view axis from which the side is seen. Columns grow with the first, rows with the second
# axis, so that plane lookups need no flips: both views of a pair share one coordinate system.
PLANES = ((0, 1, 2), (2, 1, 0), (0, 2, 1))  # front/back, left/right, top/bottom


def orthographic_screens(vertices: Floats, size: int) -> Floats:
    """(6, N, 4) screens of the six box sides: front, back, +x side, −x side, top, bottom.

    Opposite sides share their pixel grid: columns and rows grow with the normalised coordinates of
    ``PLANES``, so plane features of a pair can be concatenated without flips (the release's bottom
    plane is rotated by 180° against its plane; method notes §2). Depth is the distance from the
    side's face of the box in normalised units, 0…2.
    """
    normalised = ((vertices - BOX_CENTRE) / BOX_HALF).astype(np.float32)
    screens = np.empty((6, len(vertices), 4), dtype=np.float32)
    screens[:, :, 3] = 1.0
    for plane, (column, row, view) in enumerate(PLANES):
        for side, sign in enumerate((1.0, -1.0)):
            screen = screens[2 * plane + side]
            screen[:, 0] = (normalised[:, column] + 1) * 0.5 * size
            screen[:, 1] = (normalised[:, row] + 1) * 0.5 * size
            screen[:, 2] = 1.0 - sign * normalised[:, view] + NEAR
    return screens


def rasterize(
    screens: Floats,
    faces: Ints,
    width: int,
    height: int,
    cutout: Cutout | None = None,
    device: str = "cpu",
) -> Fragments:
    """Rasterise ``faces`` for V views.

    Args:
        screens: (V, N, 4) float32 from the functions above.
        faces: (F, 3) int32.
        width, height: pixels.
        cutout: alpha-tested triangles, or None where all are opaque.
        device: "cuda" uses nvdiffrast where it is installed and fits, else torch; all others numba
            (MPS has no float64).

    Raises:
        ValueError: the cut-out belongs to other faces.
    """
    if cutout is not None and len(cutout.layers) != len(faces):
        raise ValueError(f"a cut-out of {len(cutout.layers)} triangles for {len(faces)}")
    screens = np.ascontiguousarray(screens, dtype=np.float32)
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    if not device.startswith("cuda"):
        from head360.rendering.raster_cpu import rasterize_cpu

        return rasterize_cpu(screens, faces, width, height, cutout)
    from head360.rendering.raster_gpu import rasterize_gpu

    return rasterize_gpu(screens, faces, width, height, cutout, device)


def interpolate(fragments: Fragments, view: int, faces: Ints, values: Floats) -> Floats:
    """Interpolate per-vertex ``values`` (N, C) at the fragments of one view → (H, W, C), 0 outside.

    ``faces`` indexes ``values``: pass ``face_uvs`` with UVs, ``faces`` with normals.
    """
    from head360.rendering.raster_cpu import interpolate_cpu

    return interpolate_cpu(
        fragments.face[view],
        fragments.bary[view],
        np.ascontiguousarray(faces, dtype=np.int32),
        np.ascontiguousarray(values, dtype=np.float32),
    )

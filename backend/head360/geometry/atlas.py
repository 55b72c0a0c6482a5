"""One UV atlas for all materials of the head, in [0, 1]², origin bottom-left.

ICT-FaceKit spreads its materials over UDIM-like tiles and lets the eyes reuse tile 0 with pictures
of their own. Here every material has a rectangle in one picture, so a single neural texture (or a
single PNG) covers the whole head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNIT = 256
# name: (x, y, width, height) in units of 1/UNIT.
ATLAS_TILES: dict[str, tuple[int, int, int, int]] = {
    "face": (0, 96, 160, 160),
    "back_head": (160, 160, 96, 96),
    "gums_tongue": (0, 0, 80, 96),
    "teeth": (80, 0, 80, 96),
    "sclera_left": (160, 112, 48, 48),
    "sclera_right": (208, 112, 48, 48),
    "iris_left": (160, 64, 48, 48),
    "iris_right": (208, 64, 48, 48),
    "lashes_left": (160, 32, 48, 32),
    "lashes_right": (208, 32, 48, 32),
}
INSET = 1  # units on every side, against bleeding between tiles

# name: (material, u0, u1) in ICT's own uv. The lashes share one material: the subject's right
# lashes fill the left half of the tile u 6–7, the left ones the right half.
SOURCES: dict[str, tuple[str, float, float]] = {
    "face": ("M_Face", 0.0, 1.0),
    "back_head": ("M_BackHead", 1.0, 2.0),
    "gums_tongue": ("M_GumsTongue", 2.0, 3.0),
    "teeth": ("M_Teeth", 3.0, 4.0),
    "sclera_left": ("M_ScleraLeft", 0.0, 1.0),
    "sclera_right": ("M_ScleraRight", 0.0, 1.0),
    "iris_left": ("M_IrisLeft", 0.0, 1.0),
    "iris_right": ("M_IrisRight", 0.0, 1.0),
    "lashes_left": ("M_EyeLashes", 6.5, 7.0),
    "lashes_right": ("M_EyeLashes", 6.0, 6.5),
}


def tile_rectangle(tile: str) -> tuple[float, float, float, float]:
    """(u0, v0, u1, v1) of the usable area of ``tile``: the tile less its inset."""
    x, y, width, height = ATLAS_TILES[tile]
    return (
        (x + INSET) / UNIT,
        (y + INSET) / UNIT,
        (x + width - INSET) / UNIT,
        (y + height - INSET) / UNIT,
    )


def to_atlas(tile: str, uvs: ArrayLike) -> NDArray[np.float64]:
    """ICT uv (…, 2) of the material behind ``tile`` → atlas uv (…, 2)."""
    _, first, last = SOURCES[tile]
    u0, v0, u1, v1 = tile_rectangle(tile)
    uv = np.asarray(uvs, dtype=np.float64)
    u = (uv[..., 0] - first) / (last - first)
    return np.stack([u0 + u * (u1 - u0), v0 + uv[..., 1] * (v1 - v0)], axis=-1)


def from_atlas(tile: str, uvs: ArrayLike) -> NDArray[np.float64]:
    """Inverse of :func:`to_atlas`."""
    _, first, last = SOURCES[tile]
    u0, v0, u1, v1 = tile_rectangle(tile)
    uv = np.asarray(uvs, dtype=np.float64)
    u = first + (uv[..., 0] - u0) / (u1 - u0) * (last - first)
    return np.stack([u, (uv[..., 1] - v0) / (v1 - v0)], axis=-1)


def material_to_atlas(material: str, uvs: ArrayLike) -> NDArray[np.float64]:
    """ICT (material name, uv (…, 2)) → atlas uv (…, 2); lashes are told apart by their u.

    Raises:
        KeyError: the material has no tile (shader helpers are left out of what ships).
    """
    uv = np.asarray(uvs, dtype=np.float64)
    tiles = [name for name, source in SOURCES.items() if source[0] == material]
    if not tiles:
        raise KeyError(material)
    result = to_atlas(tiles[0], uv)
    for name in tiles[1:]:
        _, first, last = SOURCES[name]
        inside = (uv[..., :1] >= first) & (uv[..., :1] < last)
        result = np.where(inside, to_atlas(name, uv), result)
    return result

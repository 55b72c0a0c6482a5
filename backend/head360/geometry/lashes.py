"""The eyelashes' alpha: tapering strands drawn into their atlas tiles, since no texture exists."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from head360.geometry.atlas import ATLAS_TILES, UNIT
from head360.geometry.topology import Topology
from head360.rendering.raster import Cutout

SIZE = 1024
_STRANDS = 46


@functools.cache
def lash_mask() -> NDArray[np.uint8]:
    """(1024, 1024) uint8 cut-out mask of the atlas, top row first; 255 outside the lash tiles."""
    mask = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    scale = SIZE // UNIT
    for side in ("left", "right"):
        x, y, w, h = (value * scale for value in ATLAS_TILES[f"lashes_{side}"])
        v = 1 - (np.arange(h) + 0.5) / h
        u = (np.arange(w) + 0.5) / w
        wave = np.abs((u * _STRANDS) % 1.0 - 0.5) * 2
        strands = wave[None, :] > 0.45 + 0.6 * (1 - v[:, None])
        mask[SIZE - y - h : SIZE - y, x : x + w] = np.where(strands, 255, 0)
    return mask


def solid_faces(topology: Topology) -> NDArray[np.bool_]:
    """(F,) mask of the triangles that need no alpha test: all but the lashes."""
    mask = np.ones(len(topology.faces), dtype=np.bool_)
    mask[topology.part_faces("eyelashes")] = False
    return mask


_cutouts: dict[int, Cutout] = {}


def lash_cutout(topology: Topology) -> Cutout:
    """Alpha test of a topology's lash triangles; made once per topology."""
    key = id(topology)
    if key not in _cutouts:
        layers = np.where(solid_faces(topology), -1, 0).astype(np.int32)
        corners = topology.uvs[topology.face_uvs].astype(np.float32)
        _cutouts[key] = Cutout(corners, layers, lash_mask()[None])
    return _cutouts[key]

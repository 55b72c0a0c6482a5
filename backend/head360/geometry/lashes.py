"""The eyelashes' alpha: fine strands drawn into their atlas tiles, since no texture exists.

ICT-FaceKit's lashes are six strips above each other in their tile, three of the lower lid and
three of the upper; each strip runs from its tips (low v) to its roots (high v).
"""

from __future__ import annotations

import functools
import weakref

import numpy as np
from numpy.typing import NDArray

from head360.geometry.atlas import ATLAS_TILES, UNIT
from head360.geometry.topology import Topology
from head360.rendering.raster import Cutout

SIZE = 1024
_STRIPS = 6
_LOWER = 3  # strips of the lower lid, first in v
_UPPER_STRANDS, _LOWER_STRANDS = 34, 22


@functools.cache
def lash_mask() -> NDArray[np.uint8]:
    """(1024, 1024) uint8 cut-out mask of the atlas, top row first; 255 outside the lash tiles."""
    mask = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    scale = SIZE // UNIT
    for side in ("left", "right"):
        x, y, w, h = (value * scale for value in ATLAS_TILES[f"lashes_{side}"])
        v = 1 - (np.arange(h) + 0.5) / h
        # The strips fill the tile less its inset of one unit.
        inset = scale / h
        along = np.clip((v - inset) / (1 - 2 * inset), 0, 0.9999) * _STRIPS
        strip, root = along.astype(int)[:, None], (along % 1.0)[:, None]
        u = ((np.arange(w) + 0.5) / w)[None, :]
        lower = strip < _LOWER
        strands = np.where(lower, _LOWER_STRANDS, _UPPER_STRANDS)
        # Neighbouring strips are out of step, or they would hide behind each other.
        wave = np.abs((u * strands + strip * 0.37) % 1.0 - 0.5) * 2
        upper_hair = wave > 0.97 - 0.55 * root
        lower_hair = (wave > 0.98 - 0.35 * root) & (root > 0.45) & (strip == _LOWER - 1)
        tile = np.where(lower, lower_hair, upper_hair)
        mask[SIZE - y - h : SIZE - y, x : x + w] = np.where(tile, 255, 0)
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
        # The next topology may get the same id.
        weakref.finalize(topology, _cutouts.pop, key, None).atexit = False
    return _cutouts[key]

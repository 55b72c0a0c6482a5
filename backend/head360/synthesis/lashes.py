"""The studio's eyelashes: fine strands, fewer and shorter ones on the lower lid.

ICT-FaceKit's lashes are six strips above each other in their atlas tile, three of the lower lid
and three of the upper; each strip runs from its tips (low v) to its roots (high v).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from head360.geometry.atlas import ATLAS_TILES, UNIT
from head360.geometry.lashes import lash_mask

_STRIPS = 6
_LOWER = 3  # strips of the lower lid, first in v
_UPPER_STRANDS, _LOWER_STRANDS = 34, 22


@functools.cache
def studio_lash_mask() -> NDArray[np.uint8]:
    """(1024, 1024) uint8 cut-out mask of the atlas, top row first; 255 outside the lash tiles."""
    mask = lash_mask().copy()
    size = len(mask)
    scale = size // UNIT
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
        mask[size - y - h : size - y, x : x + w] = np.where(tile, 255, 0)
    return mask

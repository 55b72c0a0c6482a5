"""Coarse solids of hair styles, so that a photograph's outline can be compared with all of them.

Bases wear a few styles and the raw assets stay at home; a grid of cells around the average head
travels with the program instead (``data/hair_hulls.npz``, made by ``scripts/hair_hulls.py``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.synthesis.hair import TEXTURE, Style

CELLS = 64  # per axis of the normalised box: 6 mm
_FINE = 4  # samples across a cell
_LEAST = 0.35  # of a cell's face: less hair than that is a stray wisp


def hull_of(style: Style) -> NDArray[np.bool_]:
    """(CELLS, CELLS, CELLS) bool, indexed [z, y, x], canonical: cells with a good deal of hair.

    Args:
        style: in canonical space; the holes in its texture are holes.
    """
    corners = style.canonical[style.faces].astype(np.float64)  # (F, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.linalg.norm(normal, axis=1)
    sample = (2.0 / CELLS / _FINE) ** 2  # area of one sample
    rng = np.random.default_rng(0)
    count = rng.poisson(area / sample)
    face = np.repeat(np.arange(len(area)), count)
    bary = np.sort(rng.random((len(face), 2)), axis=1)
    weights = np.stack([bary[:, 0], bary[:, 1] - bary[:, 0], 1 - bary[:, 1]], 1)
    uv = (style.corner_uvs[face] * weights[:, :, None]).sum(1) % 1.0
    column = np.minimum((uv[:, 0] * TEXTURE).astype(int), TEXTURE - 1)
    row = np.minimum(((1 - uv[:, 1]) * TEXTURE).astype(int), TEXTURE - 1)
    kept = style.mask[row, column] > 0
    points = (corners[face[kept]] * weights[kept][:, :, None]).sum(1)
    cell = ((points + 1) / 2 * CELLS).astype(int)
    inside = ((cell >= 0) & (cell < CELLS)).all(1)
    x, y, z = cell[inside].T
    filled = np.bincount((z * CELLS + y) * CELLS + x, minlength=CELLS**3)
    return (filled >= _LEAST * _FINE**2).reshape(CELLS, CELLS, CELLS)

"""The 68 landmarks and the 468 points of MediaPipe's face mesh: twins, and one from the other."""

from __future__ import annotations

import importlib.resources
import io
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

LANDMARKS, DENSE = 68, 468
POINTS = LANDMARKS + DENSE

# Points whose places on our mesh are no exact mirror images: the outline before the ears, where
# MediaPipe's mesh ends, and the inner rims of the nostrils.
_UNEVEN = (93, 132, 234, 237, 323, 361, 454, 457)


@cache
def _tables() -> dict[str, NDArray]:
    stored = importlib.resources.files("head360") / "data" / "portrait" / "points.npz"
    with np.load(io.BytesIO(stored.read_bytes()), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def mirrors() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(68,) and (468,) the twin of each point on the other side of the face."""
    tables = _tables()
    return tables["mirror68"].astype(np.int64), tables["mirror468"].astype(np.int64)


def uneven() -> NDArray[np.int64]:
    """Dense points that are no exact mirror images of each other."""
    return np.array(_UNEVEN)


def landmarks_from_dense(dense: NDArray[np.floating]) -> Floats:
    """(68, D) the landmarks among (468, D) dense points, each a mean of three of them.

    The weights were fitted on the bilinear mesh over many faces: 1 mm off in the mean.
    """
    tables = _tables()
    picked = np.asarray(dense, dtype=np.float64)[tables["index"]]
    return np.einsum("lk,lkd->ld", tables["weight"].astype(np.float64), picked).astype(np.float32)

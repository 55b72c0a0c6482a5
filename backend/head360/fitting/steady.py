"""Cameras of a film made steady: what trembles from frame to frame is the landmarks' noise.

Every number of a pose is smoothed by a curve with little acceleration (Whittaker's smoother, made
robust); how little is chosen by predicting left-out frames, for every number on its own. A single
frame far off the curve was not understood.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.spatial.transform import Rotation

from head360.fitting.cameras import Pose

Array = NDArray[np.float64]

_GAP = 0.5  # seconds without a frame, across which nothing is smoothed
_FEWEST = 8  # frames of a stretch that is smoothed
_FOLDS = 5
_STIFFNESS = np.logspace(-2, 4, 9)  # per frame⁴
_ROBUST_ROUNDS = 4
_TAIL = 2.5  # of the typical deviation


def steady(poses: Sequence[Pose], seconds: Array) -> list[Pose]:
    """The poses of one lens, smoothed over time; stretches apart by a pause are kept apart.

    Args:
        poses: one a frame, all with the same lens.
        seconds: (n,) rising.
    """
    if not poses:
        return []
    reference = poses[len(poses) // 2].rotation
    turns = Rotation.from_matrix([pose.rotation @ reference.T for pose in poses]).as_rotvec()
    numbers = np.column_stack(
        [turns, [pose.place for pose in poses], [pose.size for pose in poses]]
    )
    breaks = np.flatnonzero(np.diff(seconds) > _GAP) + 1
    for part in np.split(np.arange(len(poses)), breaks):
        if len(part) >= _FEWEST:
            for column in range(numbers.shape[1]):
                numbers[part, column] = smooth(seconds[part], numbers[part, column])
    rotations = Rotation.from_rotvec(numbers[:, :3]).as_matrix() @ reference
    return [
        Pose(rotation, row[3:5], float(row[5]), pose.lens)
        for rotation, row, pose in zip(rotations, numbers, poses, strict=True)
    ]


def smooth(seconds: Array, values: Array) -> Array:
    """(n,) values as smooth as they predict each other best; single ones far off do not count."""
    bend = _bending(seconds)
    folds = np.arange(len(values)) % _FOLDS
    folds[[0, -1]] = -1  # the ends cannot be predicted
    best, chosen = np.inf, _STIFFNESS[0]
    for stiffness in _STIFFNESS:
        missed = np.zeros(len(values))
        for fold in range(_FOLDS):
            weights = np.where(folds == fold, 0.0, 1.0)
            missed[folds == fold] = (_solve(bend, values, weights, stiffness) - values)[
                folds == fold
            ]
        score = float(np.abs(missed[folds >= 0]).mean())
        if score < best * 0.999:
            best, chosen = score, stiffness
    weights = np.ones(len(values))
    for _ in range(_ROBUST_ROUNDS):
        curve = _solve(bend, values, weights, chosen)
        off = np.abs(values - curve)
        typical = max(float(np.median(off)) * 1.4826, 1e-12)
        weights = 1 / (1 + (off / (_TAIL * typical)) ** 2)
    return _solve(bend, values, weights, chosen)


def _bending(seconds: Array) -> Array:
    """(3, n) upper bands of DᵀD, where D takes second derivatives per squared median step."""
    time = seconds / max(float(np.median(np.diff(seconds))), 1e-9)
    before, after = np.diff(time)[:-1], np.diff(time)[1:]
    rows = np.arange(len(time) - 2)
    span = (before + after) / 2
    table = sp.lil_matrix((len(rows), len(time)))
    table[rows, rows] = 1 / (before * span)
    table[rows, rows + 1] = -(1 / before + 1 / after) / span
    table[rows, rows + 2] = 1 / (after * span)
    product = (table.T @ table).tocsr()
    bands = np.zeros((3, len(time)))
    for k in range(3):
        bands[2 - k, k:] = product.diagonal(k)
    return bands


def _solve(bend: Array, values: Array, weights: Array, stiffness: float) -> Array:
    bands = stiffness * bend
    bands[2] += weights + 1e-12
    return np.asarray(solveh_banded(bands, weights * values))

"""Eyeballs: rotated rigidly about their centres, after the linear model.

Degrees per unit were measured on a real Live Link Face take (assets README, residual 0.15°).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.arkit import INDEX

LOOK_OUT_DEG = 33.0
LOOK_IN_DEG = 36.0
LOOK_UP_DEG = 26.0
LOOK_DOWN_DEG = 35.0

# (side, name, yaw°, pitch°) at full weight. Yaw turns about +Y towards the subject's left, pitch
# about +X downwards.
EYE_LOOKS: tuple[tuple[int, str, float, float], ...] = (
    (0, "eyeLookOutLeft", LOOK_OUT_DEG, 0.0),
    (0, "eyeLookInLeft", -LOOK_IN_DEG, 0.0),
    (0, "eyeLookUpLeft", 0.0, -LOOK_UP_DEG),
    (0, "eyeLookDownLeft", 0.0, LOOK_DOWN_DEG),
    (1, "eyeLookOutRight", -LOOK_OUT_DEG, 0.0),
    (1, "eyeLookInRight", LOOK_IN_DEG, 0.0),
    (1, "eyeLookUpRight", 0.0, -LOOK_UP_DEG),
    (1, "eyeLookDownRight", 0.0, LOOK_DOWN_DEG),
)


def rotation(yaw_deg: float, pitch_deg: float) -> NDArray[np.float64]:
    """(3, 3) head-space rotation: pitch about +X (positive looks down), then yaw about +Y."""
    y, p = np.radians(yaw_deg), np.radians(pitch_deg)
    yaw = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    pitch = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    return yaw @ pitch


def eye_rotations(blendshapes: ArrayLike) -> NDArray[np.float64]:
    """(52,) weights → (2, 3, 3) rotations of the left and the right eyeball."""
    b = np.asarray(blendshapes, dtype=np.float64)
    angles = np.zeros((2, 2))
    for side, name, yaw, pitch in EYE_LOOKS:
        angles[side] += b[INDEX[name]] * np.array([yaw, pitch])
    return np.stack([rotation(*angles[side]) for side in (0, 1)])

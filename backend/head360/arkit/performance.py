"""A synthetic performance: what the bundled take shows, written by this project."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.arkit.names import COUNT, INDEX

# (shape, or a stem that means both sides; peak weight; centre and half width in fractions of the
# take). One line of acting each: together they pass through every region of the face.
_ACTS: tuple[tuple[str, float, float, float], ...] = (
    ("mouthSmile*", 0.85, 0.12, 0.12),
    ("cheekSquint*", 0.55, 0.12, 0.11),
    ("mouthDimple*", 0.30, 0.12, 0.10),
    ("eyeSquint*", 0.35, 0.13, 0.10),
    ("browInnerUp", 0.80, 0.33, 0.11),
    ("browOuterUp*", 0.75, 0.33, 0.11),
    ("eyeWide*", 0.60, 0.33, 0.10),
    ("jawOpen", 0.70, 0.35, 0.11),
    ("mouthFunnel", 0.25, 0.36, 0.09),
    ("mouthPucker", 0.90, 0.53, 0.10),
    ("cheekPuff", 0.25, 0.54, 0.09),
    ("browDown*", 0.70, 0.53, 0.11),
    ("noseSneer*", 0.35, 0.51, 0.07),
    ("jawOpen", 0.60, 0.71, 0.11),
    ("tongueOut", 0.90, 0.72, 0.07),
    ("mouthLowerDown*", 0.35, 0.71, 0.08),
    ("mouthSmileLeft", 0.75, 0.88, 0.10),
    ("cheekSquintLeft", 0.55, 0.88, 0.09),
    ("mouthDimpleLeft", 0.40, 0.88, 0.09),
    ("mouthUpperUpLeft", 0.30, 0.88, 0.08),
    ("mouthLeft", 0.35, 0.88, 0.09),
    ("browOuterUpRight", 0.60, 0.88, 0.09),
)
# Gaze over the take: (fraction, yaw towards the subject's left, up), in look-shape weights.
_GAZE = ((0.0, 0.0, 0.0), (0.2, 0.1, 0.1), (0.28, -0.5, 0.2), (0.4, 0.0, 0.35), (0.5, 0.0, -0.2),
         (0.62, 0.55, 0.0), (0.75, 0.0, 0.1), (0.9, 0.45, -0.05), (1.0, 0.0, 0.0))  # fmt: skip
_BLINKS = (0.23, 0.45, 0.63, 0.97)


def _bump(fraction: NDArray[np.float64], centre: float, half: float) -> NDArray[np.float64]:
    """A smooth rise and fall: 1 at ``centre``, 0 from ``half`` away."""
    distance = np.clip(np.abs(fraction - centre) / half, 0.0, 1.0)
    return 0.5 + 0.5 * np.cos(np.pi * distance)


def perform(seconds: float, fps: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Smile, surprise, pucker, tongue and smirk, with gaze and blinks: (R,) seconds, (R, 52)."""
    count = max(round(seconds * fps), 2)
    moments = np.arange(count) / fps
    fraction = moments / moments[-1]
    weights = np.zeros((count, COUNT))
    for shape, peak, centre, half in _ACTS:
        curve = peak * _bump(fraction, centre, half)
        sides = ("Left", "Right") if shape.endswith("*") else ("",)
        for side in sides:
            index = INDEX[shape.rstrip("*") + side]
            weights[:, index] = np.maximum(weights[:, index], curve)

    keys, yaws, ups = (np.array(column) for column in zip(*_GAZE, strict=True))
    yaw, up = np.interp(fraction, keys, yaws), np.interp(fraction, keys, ups)
    for side, out in (("Left", yaw), ("Right", -yaw)):
        weights[:, INDEX[f"eyeLookOut{side}"]] = np.maximum(out, 0)
        weights[:, INDEX[f"eyeLookIn{side}"]] = np.maximum(-out, 0)
        weights[:, INDEX[f"eyeLookUp{side}"]] = np.maximum(up, 0)
        weights[:, INDEX[f"eyeLookDown{side}"]] = np.maximum(-up, 0)
    # A blink takes a fifth of a second whatever the length of the take.
    for blink in _BLINKS:
        curve = _bump(moments, blink * moments[-1], 0.14)
        for side in ("Left", "Right"):
            index = INDEX[f"eyeBlink{side}"]
            weights[:, index] = np.maximum(weights[:, index], curve)
    return moments, np.clip(weights, 0, 1).astype(np.float32)

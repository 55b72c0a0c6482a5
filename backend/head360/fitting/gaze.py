"""Where the eyes look: landmarks do not tell, but the dark of the iris does.

Both eyes turn together; the turn is tried on a grid, and the one under whose irises the picture is
darkest against the rest of the eye wins. Without it an iris would be painted beside the mesh's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from head360.arkit import INDEX
from head360.geometry.bilinear import IdentityMesh
from head360.geometry.gaze import (
    LOOK_DOWN_DEG,
    LOOK_IN_DEG,
    LOOK_OUT_DEG,
    LOOK_UP_DEG,
    rotation,
)
from head360.rendering.cameras import Camera

Floats = NDArray[np.float32]

_EYES = (slice(42, 48), slice(36, 42))  # of the 68: the subject's left, then right
_IRIS = 0.0058  # metres, radius
_YAWS = np.arange(-28.0, 28.1, 2.0)
_PITCHES = np.arange(-14.0, 14.1, 3.5)
_SMALLEST = 9.0  # pixels between the corners of an eye
_STEADY = 0.0035  # of the contrast per degree: eyes at rest look ahead
_LEAST = 0.25  # contrast, in deviations of the eye's brightness, that is an iris
_FINE = 64  # pixels across an eye that are looked at


def find_gaze(
    pixels: NDArray[np.uint8],
    landmarks: NDArray[np.floating],
    camera: Camera,
    identity: IdentityMesh,
) -> tuple[float, float] | None:
    """(yaw, pitch) in degrees from straight ahead, towards the subject's left and up.

    Args:
        pixels: (H, W, 3) uint8.
        landmarks: (68, 2) pixels; camera: of the photograph; identity: of the person.

    Returns:
        None where the eyes are too small, closed, or show no iris.
    """
    height, width = pixels.shape[:2]
    grid = [(float(yaw), float(pitch)) for pitch in _PITCHES for yaw in _YAWS]
    total = np.zeros(len(grid))
    seen = 0
    for side, marks in enumerate(_EYES):
        outline = np.asarray(landmarks[marks], dtype=np.float64)
        if not np.isfinite(outline).all() or np.ptp(outline[:, 0]) < _SMALLEST:
            continue
        patch, inside, low, scale = _patch(pixels, outline)
        if inside.sum() < 40 or patch[inside].std() < 3:
            continue
        bright = (patch - patch[inside].mean()) / patch[inside].std()
        ball = identity.neutral[identity.eyeballs[side]] - identity.eye_centres[side]
        reach = float(ball[:, 2].max())
        turns = [rotation(yaw, -pitch) @ (0.0, 0.0, reach) for yaw, pitch in grid]
        centres = identity.eye_centres[side] + np.array(turns)
        places, depth = camera.project(centres, width, height)
        radius = _IRIS * camera.intrinsics[1, 1] * height / depth.mean() * scale
        rows, columns = np.nonzero(inside)
        values = bright[inside]
        for number, place in enumerate((places - low) * scale):
            within = np.hypot(columns + 0.5 - place[0], rows + 0.5 - place[1]) < radius
            if within.sum() < 12 or (~within).sum() < 12:
                total[number] -= 1.0
                continue
            total[number] += values[~within].mean() - values[within].mean()
        seen += 1
    if not seen:
        return None
    total /= seen
    size = np.array([np.hypot(yaw, pitch) for yaw, pitch in grid])
    best = int(np.argmax(total - _STEADY * size))
    return grid[best] if total[best] > _LEAST else None


def _patch(
    pixels: NDArray[np.uint8], outline: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64], float]:
    """Luminance of an eye at about ``_FINE`` pixels, its inside, top-left corner and scale."""
    low, high = np.floor(outline.min(0)) - 2, np.ceil(outline.max(0)) + 2
    scale = _FINE / float(high[0] - low[0])
    size = (_FINE, max(8, round((high[1] - low[1]) * scale)))
    picture = Image.fromarray(pixels).resize(
        size, Image.Resampling.BICUBIC, box=_clipped((*low, *high), pixels.shape)
    )
    mask = Image.new("L", size)
    # A little smaller than the lids: lashes are as dark as an iris.
    middle = outline.mean(0)
    points = ((outline - middle) * (0.95, 0.85) + middle - low) * scale
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in points], fill=255)
    return np.asarray(picture.convert("L"), dtype=np.float64), np.asarray(mask) > 127, low, scale


def _clipped(box: tuple[float, ...], shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return (
        min(max(left, 0.0), shape[1] - 1.0), min(max(top, 0.0), shape[0] - 1.0),
        max(min(right, float(shape[1])), 1.0), max(min(bottom, float(shape[0])), 1.0),
    )  # fmt: skip


def looking(blendshapes: Floats, yaw: float, pitch: float) -> Floats:
    """(52,) the same expression with both eyes turned to (yaw, pitch) in degrees."""
    weights = np.array(blendshapes, dtype=np.float32)
    for side, outward in (("Left", 1.0), ("Right", -1.0)):
        out = yaw * outward
        weights[INDEX[f"eyeLookOut{side}"]] = max(0.0, out) / LOOK_OUT_DEG
        weights[INDEX[f"eyeLookIn{side}"]] = max(0.0, -out) / LOOK_IN_DEG
        weights[INDEX[f"eyeLookUp{side}"]] = max(0.0, pitch) / LOOK_UP_DEG
        weights[INDEX[f"eyeLookDown{side}"]] = max(0.0, -pitch) / LOOK_DOWN_DEG
    return np.clip(weights, 0.0, 1.0)

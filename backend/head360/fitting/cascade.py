"""Upright frontal faces by scikit-image's cascade: a second opinion that has seen real people.

It knows nothing of tilted or turned heads and gives boxes alone, but it all but never sees a face
where there is none, and it was trained on photographs, which our networks were not.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating]

_SEARCHED = 320  # pixels: the longer side of the copy that is searched
_SMALLEST = 24  # pixels of a face in it
_ANGLES = (0.0, 25.0, -25.0)  # degrees by which the copy is turned, the first that shows faces wins
_SIDE, _LOWER = 0.88, 0.12  # side of the landmarks' box over the cascade's, and how far below it is


@cache
def _cascade() -> Any:
    from skimage import data
    from skimage.feature import Cascade

    return Cascade(data.lbp_frontal_face_cascade_filename())


def frontal_faces(pixels: NDArray[np.uint8]) -> list[tuple[Floats, float, float]]:
    """Centre (2,) and side in pixels of the box of the landmarks, and degrees of tilt, clockwise.

    Args:
        pixels: (H, W, 3) uint8.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _SEARCHED / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if min(size) < _SMALLEST:
        return []
    copy = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    for degrees in _ANGLES:
        turned = copy.rotate(degrees, Image.Resampling.BILINEAR) if degrees else copy
        boxes = _cascade().detect_multi_scale(
            np.asarray(turned), scale_factor=1.2, step_ratio=1, min_size=(_SMALLEST,) * 2,
            max_size=(max(size),) * 2,
        )  # fmt: skip
        if boxes:
            return [_place(box, degrees, size, scale) for box in boxes]
    return []


def _place(
    box: dict[str, int], degrees: float, size: tuple[int, int], scale: float
) -> tuple[Floats, float, float]:
    side = float(box["width"])
    centre = np.array([box["c"] + side / 2, box["r"] + box["height"] / 2 + _LOWER * side])
    # Pillow turns a picture anticlockwise about its middle: the way back is clockwise.
    angle, middle = np.radians(degrees), np.array(size) / 2
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    place = back @ (centre - middle) + middle
    return (place / scale).astype(np.float32), side * _SIDE / scale, degrees

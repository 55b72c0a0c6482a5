"""Square crops of a picture, turned and mirrored, and the way there and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating]


def window(
    centre: NDArray[np.floating], side: float, degrees: float, size: int, flip: bool = False
) -> Floats:
    """(2, 3) float32 that takes a pixel of a crop of ``size``² to a pixel of the picture.

    Args:
        centre: (2,) of the crop in the picture; side: of the crop in the picture's pixels.
        degrees: by which what is seen turns clockwise in the crop.
        size: pixels per side of the crop.
        flip: mirrored left to right.
    """
    scale, angle = side / size, np.radians(-degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    if flip:
        turn = turn @ np.diag([-1.0, 1.0])
    middle = np.asarray(centre, dtype=np.float64) - turn @ np.full(2, size / 2)
    return np.concatenate([turn, middle[:, None]], 1).astype(np.float32)


def lean(landmarks: NDArray[np.floating]) -> float:
    """Degrees by which a face leans in the picture, clockwise, by its (68, 2) landmarks or more."""
    axis = landmarks[8] - landmarks[27]  # from between the eyes to the chin
    return float(np.degrees(np.arctan2(-axis[0], axis[1])))


def upright_box(points: NDArray[np.floating], degrees: float) -> tuple[NDArray[np.float64], float]:
    """Centre (2,) and side of the square box around (N, 2) points that leans by ``degrees``."""
    angle = np.radians(-degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = points.astype(np.float64) @ turn.T
    low, high = upright.min(0), upright.max(0)
    return (low + high) / 2 @ turn, float((high - low).max())


def into_window(points: NDArray[np.floating], matrix: Floats) -> Floats:
    """(…, 2) points of the picture as pixels of the crop that ``matrix`` cuts."""
    inverse = np.linalg.inv(matrix[:, :2].astype(np.float64))
    return ((points - matrix[:, 2]) @ inverse.T).astype(np.float32)


def out_of_window(points: NDArray[np.floating], matrix: Floats) -> Floats:
    """Inverse of :func:`into_window`."""
    return (points @ matrix[:, :2].astype(np.float64).T + matrix[:, 2]).astype(np.float32)


def cut(picture: Image.Image, matrix: Floats, size: int, smooth: bool = True) -> Image.Image:
    """The crop of a picture; outside it is zero. ``smooth`` interpolates."""
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2].astype(np.float64)))))
    if smooth and shrink >= 1.6:  # bilinear sampling alone would flicker
        step = round(shrink)
        picture = picture.reduce(step)
        matrix = (matrix / step).astype(np.float32)
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return picture.transform((size, size), Image.Transform.AFFINE, matrix.ravel().tolist(), how)


def with_rim(pixels: NDArray[np.uint8], share: float = 0.6) -> tuple[NDArray[np.uint8], int]:
    """The picture with its border colours carried on around it, and how far, in pixels.

    Crops of faces at the border would else hold black, which photographs do not.
    """
    rim = round(max(pixels.shape[:2]) * share)
    return np.pad(pixels, ((rim, rim), (rim, rim), (0, 0)), mode="edge"), rim

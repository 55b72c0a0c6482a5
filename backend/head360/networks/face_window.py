"""Square windows around a face, upright and of one scale: what the portrait networks look at.

A window is found from 68 landmarks alone. Its unit is the distance from the eyes to the mouth
(about 7 cm), measured so that it hardly changes while the head turns or nods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

# Of the distance between the outer corners of the eyes: what the unit is in a frontal face.
_EYES_TO_UNIT = 0.76


@dataclass(frozen=True)
class FaceFrame:
    """Where a face is: origin between eyes and mouth, axes along the face, one unit.

    Attributes:
        x, y: origin, pixels (pixel centres at +0.5).
        unit: pixels from the middle of the eyes to the middle of the mouth, seen from the front.
        angle: radians by which the face leans in the picture; 0 upright, positive clockwise.
    """

    x: float
    y: float
    unit: float
    angle: float

    @classmethod
    def of(cls, landmarks: NDArray[np.floating]) -> FaceFrame:
        """The frame of (68, 2) landmarks in pixels, Multi-PIE order."""
        eyes, mouth = landmarks[36:48].mean(0), landmarks[48:68].mean(0)
        down = mouth - eyes
        # A nod shortens the one, a turn the other: the longer of the two is nearer to the truth.
        wide = _EYES_TO_UNIT * np.linalg.norm(landmarks[45] - landmarks[36])
        unit = max(float(np.linalg.norm(down)), float(wide), 1.0)
        middle = (eyes + mouth) / 2
        return cls(float(middle[0]), float(middle[1]), unit, float(np.arctan2(-down[0], down[1])))

    def beside(self, centre: tuple[float, float]) -> FaceFrame:
        """The same frame around another origin, units right of and below this one's."""
        cos, sin = np.cos(self.angle) * self.unit, np.sin(self.angle) * self.unit
        right, down = centre
        x, y = self.x + cos * right - sin * down, self.y + sin * right + cos * down
        return FaceFrame(float(x), float(y), self.unit, self.angle)

    def matrix(self, side: float) -> NDArray[np.float64]:
        """(2, 3): window coordinates in [−1, 1] → pixels, for a window of ``side`` units."""
        half = self.unit * side / 2
        cos, sin = np.cos(self.angle) * half, np.sin(self.angle) * half
        return np.array([[cos, -sin, self.x], [sin, cos, self.y]])

    def inverse(self, side: float) -> NDArray[np.float64]:
        """(2, 3): pixels → window coordinates in [−1, 1]."""
        turn = np.linalg.inv(self.matrix(side)[:, :2])
        return np.column_stack([turn, -turn @ (self.x, self.y)])


def window_grid(size: int, device: torch.device | str = "cpu") -> Tensor:
    """(size, size, 2) float32: x, y in [−1, 1] of the middles of a window's pixels."""
    line = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def sample_window(
    pixels: Tensor, frame: FaceFrame, side: float, size: int, mode: str = "bilinear"
) -> Tensor:
    """Cut one window out of a picture; beyond its border the border goes on.

    Args:
        pixels: (C, H, W) float32.
        frame: of the face, in pixels of that picture.
        side: of the window, in units of the frame.
        size: of the result, pixels.
        mode: "bilinear" (without aliasing) or "nearest".

    Returns:
        (C, size, size) float32.
    """
    places = torch.from_numpy(frame.matrix(side).astype(np.float32)).to(pixels.device)
    grid = window_grid(size, pixels.device) @ places[:, :2].T + places[:, 2]
    if mode == "bilinear":
        # Whole steps of reduction first, so that bilinear look-ups lie at most two pixels apart.
        step = int(frame.unit * side / size / 1.5)
        if step > 1:
            height, width = (step * -(-n // step) for n in pixels.shape[1:])
            grown = F.pad(
                pixels[None], (0, width - pixels.shape[2], 0, height - pixels.shape[1]),
                mode="replicate",
            )  # fmt: skip
            pixels, grid = F.avg_pool2d(grown, step)[0], grid / step
    return look_up(pixels, grid, mode)


def look_up(pixels: Tensor, places: Tensor, mode: str = "bilinear") -> Tensor:
    """(C, H, W) at (h, w, 2) pixel places → (C, h, w); beyond its border the border goes on."""
    extent = torch.tensor([pixels.shape[2], pixels.shape[1]], device=pixels.device)
    grid = places * (2 / extent) - 1
    return F.grid_sample(
        pixels[None], grid[None], mode=mode, padding_mode="border", align_corners=False
    )[0]


def spread_window(
    window: Tensor, frame: FaceFrame, side: float, height: int, width: int, outside: Sequence[float]
) -> Tensor:
    """The way back: (C, S, S) in a window → (C, height, width) in the picture.

    Args:
        window: what the window shows.
        frame, side: where the window is.
        height, width: of the picture.
        outside: value of each channel where the window does not reach.
    """
    places = torch.from_numpy(frame.inverse(side).astype(np.float32)).to(window.device)
    xs = torch.arange(width, device=window.device, dtype=torch.float32) + 0.5
    ys = torch.arange(height, device=window.device, dtype=torch.float32) + 0.5
    picture = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)
    grid = picture @ places[:, :2].T + places[:, 2]
    found = F.grid_sample(
        window[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]
    inside = (grid.abs() <= 1).all(-1)
    return torch.where(inside, found, found.new_tensor(list(outside))[:, None, None])


# What is drawn of a face: landmarks in order, Multi-PIE numbers.
_LAYOUT: tuple[tuple[tuple[int, ...], ...], ...] = (
    (tuple(range(36, 42)), tuple(range(42, 48))),  # eyes
    (tuple(range(48, 60)),),  # lips
    (tuple(range(60, 68)),),  # between the lips
    ((*range(17), *range(26, 16, -1)),),  # face
)
_BROWS = (tuple(range(17, 22)), tuple(range(22, 27)))
LAYOUT_CHANNELS = len(_LAYOUT) + 1


def face_layout(points: NDArray[np.floating], size: int, side: float) -> NDArray[np.float32]:
    """A sketch of a face: where landmarks say that its parts are.

    Args:
        points: (68, 2) in window coordinates [−1, 1].
        size: of the sketch, pixels.
        side: of the window, in units of the face.

    Returns:
        (5, size, size) float32 in [0, 1]: eyes, lips, mouth, face, brows.
    """
    places = np.clip((points + 1) * size, -4 * size, 8 * size)  # drawn twice as large
    drawn = []
    for outlines in _LAYOUT:
        sheet = Image.new("L", (2 * size, 2 * size))
        for outline in outlines:
            ImageDraw.Draw(sheet).polygon([tuple(p) for p in places[list(outline)]], fill=255)
        drawn.append(sheet)
    sheet = Image.new("L", (2 * size, 2 * size))
    width = max(1, round(0.17 * 2 * size / side))
    for line in _BROWS:
        ImageDraw.Draw(sheet).line([tuple(p) for p in places[list(line)]], 255, width)
    drawn.append(sheet)
    return np.stack([np.asarray(s.reduce(2), dtype=np.float32) for s in drawn]) / np.float32(255)

"""The one square of all frames that goes into a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from head360.fitting.footage_solve import Solved, camera_of
from head360.fitting.recording import Recording
from head360.geometry.bilinear import BilinearModel
from head360.rendering.cameras import Camera

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]

_HAIR, _SIDES = 0.16, 0.10  # of the head's height: room above and beside the bald mesh


@dataclass(frozen=True)
class Cut:
    """The square of the frame that goes into the data set: ``left``, ``top``, ``side`` pixels."""

    left: int
    top: int
    side: int
    size: int

    def picture(self, pixels: Pixels) -> Pixels:
        """The square at the data set's size."""
        box = (self.left, self.top, self.left + self.side, self.top + self.side)
        whole = Image.fromarray(pixels)
        size = (self.size, self.size)
        return np.asarray(whole.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))

    def camera(self, camera: Camera, width: int, height: int) -> Camera:
        """The camera of the square."""
        to_pixels = np.diag([width, height, 1.0])
        shift = np.array([[1.0, 0.0, -self.left], [0.0, 1.0, -self.top], [0.0, 0.0, self.side]])
        lens = shift / self.side @ to_pixels @ camera.intrinsics
        return Camera(camera.cam2world, lens)

    def points(self, points: Any) -> Array:
        """(P, 2) pixels of the frame → pixels of the square."""
        place = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        return (place - (self.left, self.top)) * self.size / self.side


def square_around(
    recording: Recording, solved: Sequence[Solved], model: BilinearModel, size: int
) -> Cut:
    """One square that holds the head in every frame, as far as the frame does.

    A square that moved with the head would be another lens in every frame.
    """
    head = model.neutral(model.mean_shape)[::7].astype(np.float64)
    height = float(np.ptp(head[:, 1]))
    low, high = head.min(axis=0), head.max(axis=0)
    low[0], high[0] = low[0] - _SIDES * height, high[0] + _SIDES * height
    high[1] += _HAIR * height
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1])
                        for z in (low[2], high[2])])  # fmt: skip
    boxes = np.array([
        (p.min(axis=0), p.max(axis=0))
        for s in solved
        for p in [camera_of(recording, s.pose).project(
            corners, recording.width, recording.height
        )[0]]
    ])  # fmt: skip
    first, last = np.quantile(boxes[:, 0], 0.02, axis=0), np.quantile(boxes[:, 1], 0.98, axis=0)
    side = int(min(np.ceil((last - first).max()), recording.width, recording.height))
    middle = (first + last) / 2
    left = int(np.clip(round(middle[0] - side / 2), 0, recording.width - side))
    top = int(np.clip(round(middle[1] - side / 2), 0, recording.height - side))
    return Cut(left, top, side, size)

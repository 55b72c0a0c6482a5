"""What a Gaussian head knows of the video it was learned from."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from head360.arkit import NAMES
from head360.heads.gaussian_retarget import Range

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Expression:
    """What the numbers of an expression are.

    Attributes:
        names: of the E numbers; empty where nobody wrote them down.
        low, high: (E,) float32 range that the video showed.
        neutral: (E,) float32 of the face at rest; None where nobody looked for it.
    """

    names: tuple[str, ...]
    low: Floats
    high: Floats
    neutral: Floats | None = None

    @property
    def arkit(self) -> bool:
        """Whether they are the 52 blendshapes in Apple's order."""
        return self.names == tuple(NAMES)

    def range(self) -> Range:
        """For retargeting; only where the numbers are ARKit's."""
        low, high = self.low, self.high
        rest = np.zeros_like(low) if self.neutral is None else self.neutral
        return Range(np.clip(rest, low, high), low, high)


@dataclasses.dataclass(frozen=True)
class Filling:
    """Colours of Gaussians that no frame showed.

    Attributes:
        index: (M,) int64 of the Gaussians; colours: (M, 3) sRGB.
    """

    index: Tensor
    colours: Tensor


@dataclasses.dataclass(frozen=True)
class ViewCone:
    """Directions from the head to the cameras that it was learned from.

    Colours that depend on the direction mean nothing outside: there they stay what they are at the
    edge.

    Attributes:
        axis: (3,) unit vector, middle of the cameras; angle: radians, the widest of them from it.
    """

    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    angle: float = float(np.pi)

    @staticmethod
    def around(offsets: NDArray[np.floating]) -> ViewCone:
        """Of cameras at (M, 3) from the head's centre."""
        units = offsets / np.linalg.norm(offsets, axis=1, keepdims=True)
        mean = units.mean(0)
        length = float(np.linalg.norm(mean))
        if length < 1e-3:  # all around
            return ViewCone()
        x, y, z = (mean / length).tolist()
        widest = float(np.arccos(np.clip(units @ (mean / length), -1, 1)).max())
        return ViewCone((x, y, z), widest)

    def nearest(self, offset: NDArray[np.floating]) -> NDArray[np.float64]:
        """The camera (3,) from the centre, turned to the edge of the cone where it is outside."""
        axis, length = np.array(self.axis), float(np.linalg.norm(offset))
        unit = np.asarray(offset, dtype=np.float64) / max(length, 1e-12)
        if np.arccos(np.clip(unit @ axis, -1, 1)) <= self.angle:
            return np.asarray(offset, dtype=np.float64)
        across = unit - (unit @ axis) * axis
        size = float(np.linalg.norm(across))
        if size < 1e-9:  # right behind: any edge is as near
            across, size = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))]), 1.0
        across = across / np.linalg.norm(across)
        return length * (np.cos(self.angle) * axis + np.sin(self.angle) * across)

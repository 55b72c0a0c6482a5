"""The studio's light set-ups: lamps fixed to the head under a sky and over a ground, linear RGB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.errors import BadInput

Floats = NDArray[np.float32]

_SOFT_LAMP = 14.0  # concentration of a lamp about 40° wide


@dataclass(frozen=True)
class Light:
    """Directional lamps fixed to the head, and what comes from everywhere.

    Attributes:
        directions: (L, 3) float32 unit vectors towards the lamps, head space.
        colours: (L, 3) float32 linear radiance.
        sky, ground: (3,) float32 linear ambient from above and below.
        sharpness: (L,) float32 concentration of the directions that a lamp's shadow averages:
            14 is a soft box about 40° wide; from 60 on it is hard, like the sun.
        overhead: 0 takes the ambient's shadow from all directions alike, 1 from the sky alone, so
            that what hangs over a place darkens it.
    """

    directions: Floats
    colours: Floats
    sky: Floats
    ground: Floats
    sharpness: Floats
    overhead: float = 0.0


def _light(
    lamps: list[tuple[tuple[float, float, float], tuple[float, float, float], float]],
    sky: ArrayLike,
    ground: ArrayLike,
    overhead: float = 0.0,
) -> Light:
    """A light of (towards, colour, sharpness) lamps."""
    directions = np.array([towards for towards, _, _ in lamps], dtype=np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Light(
        directions.astype(np.float32),
        np.array([colour for _, colour, _ in lamps], dtype=np.float32),
        np.asarray(sky, dtype=np.float32),
        np.asarray(ground, dtype=np.float32),
        np.array([sharpness for _, _, sharpness in lamps], dtype=np.float32),
        overhead,
    )


# "soft" is what the first heads were trained on: its numbers stay as they are.
LIGHTS: dict[str, Light] = {
    # Warm key from the subject's upper left, cool fill from the right, rim from behind.
    "soft": _light(
        [
            ((0.55, 0.6, 0.75), (0.80, 0.76, 0.70), _SOFT_LAMP),
            ((-0.75, 0.1, 0.6), (0.26, 0.28, 0.32), _SOFT_LAMP),
            ((-0.25, 0.55, -0.9), (0.46, 0.47, 0.50), _SOFT_LAMP),
        ],
        (0.36, 0.37, 0.39),
        (0.22, 0.20, 0.19),
    ),
    # Late afternoon: one hard warm lamp, low on the subject's right, and a blue sky.
    "sun": _light(
        [
            ((-0.72, 0.42, 0.68), (1.30, 1.02, 0.70), 80.0),
            ((0.3, 0.9, -0.4), (0.10, 0.14, 0.20), 6.0),
        ],
        (0.24, 0.31, 0.43),
        (0.17, 0.13, 0.09),
        0.3,
    ),
    # A tall window on the subject's left, a dim room on the other side.
    "window": _light(
        [
            ((0.93, 0.28, 0.42), (0.98, 1.00, 1.04), 7.0),
            ((-0.8, 0.0, 0.5), (0.07, 0.06, 0.05), 6.0),
        ],
        (0.16, 0.16, 0.17),
        (0.10, 0.09, 0.08),
    ),
    # A white sky: no side is darker than another, but what hangs over a place darkens it.
    "overcast": _light(
        [((0.0, 0.85, 0.55), (0.34, 0.35, 0.36), 3.0)],
        (0.72, 0.74, 0.77),
        (0.26, 0.25, 0.24),
        1.0,
    ),
    # Two coloured rims from behind and a weak lamp in front.
    "stage": _light(
        [
            ((0.85, 0.25, -0.45), (1.25, 0.26, 0.42), 16.0),
            ((-0.85, 0.20, -0.40), (0.14, 0.52, 1.20), 16.0),
            ((0.12, 0.45, 0.9), (0.42, 0.39, 0.36), 12.0),
        ],
        (0.10, 0.10, 0.13),
        (0.07, 0.05, 0.07),
    ),
}
DEFAULT_LIGHT = "soft"


def light_number(name: str) -> int:
    """Place of a light in ``LIGHTS``.

    Raises:
        BadInput: no such light.
    """
    names = list(LIGHTS)
    if name not in LIGHTS:
        raise BadInput(f"There is no light {name!r}: choose from {', '.join(names)}.")
    return names.index(name)

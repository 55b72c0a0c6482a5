"""How pictures are compared: over white, encoded, in dB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def on_white(rgba: Floats) -> Floats:
    """(…, 4) straight alpha → (…, 3) over white, blended as encoded."""
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def psnr(predicted: NDArray, truth: NDArray) -> float:
    """10·log₁₀(1 / MSE) in dB for pictures in [0, 1]."""
    error = float(np.mean((predicted.astype(np.float64) - truth) ** 2))
    return float(-10 * np.log10(max(error, 1e-12)))

"""Small tools on pictures (H, W, 3) float32 sRGB in [0, 1] that filters share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from head360.synthesis.blur import blur

Floats = NDArray[np.float32]

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def lightness(colour: Floats) -> Floats:
    """(…, 3) → (…) luminance of the encoded colour."""
    return np.asarray(colour @ _LUMINANCE, dtype=np.float32)


def mixed(picture: Floats, other: Floats, share: Floats | float) -> Floats:
    """``picture`` towards ``other`` by a share of shape (H, W) or a number."""
    weight = share[..., None] if isinstance(share, np.ndarray) else share
    return np.asarray(picture + weight * (other - picture), dtype=np.float32)


def softened(picture: Floats, where: Floats, sigma: float) -> Floats:
    """Gaussian mean of the pixels inside ``where`` (H, W) alone; nothing bleeds in from outside."""
    weight = where[..., None].astype(np.float32)
    both = np.concatenate([picture * weight, weight], -1).astype(np.float32)
    both = blur(both, max(0.3, float(sigma)), truncate=3.0)
    mean = both[..., :3] / np.maximum(both[..., 3:], 1e-4)
    return np.asarray(np.where(both[..., 3:] > 1e-3, mean, picture), dtype=np.float32)


def saturated(colour: Floats, factor: float) -> Floats:
    """More (above 1) or less colourful at the same luminance."""
    grey = lightness(colour)[..., None]
    return np.asarray(grey + factor * (colour - grey), dtype=np.float32)


def toned(picture: Floats, tone: Floats, target: Floats) -> Floats:
    """A curve per channel that takes ``tone`` to ``target`` and keeps black and white."""
    before = np.log(np.clip(tone, 0.03, 0.97))
    after = np.log(np.clip(target, 0.03, 0.97))
    return np.asarray(np.power(np.clip(picture, 1e-3, 1), after / before), dtype=np.float32)


def colour(red: int, green: int, blue: int) -> Floats:
    """sRGB 0–255 → (3,) in [0, 1]."""
    return np.asarray(np.array([red, green, blue]) / 255, dtype=np.float32)

"""The faults of real pictures: light, colour, focus, resolution, noise and compression."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from head360.training.portrait_scenery import clouds

Floats = NDArray[np.floating]

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def take(rng: np.random.Generator, picture: Floats, faults: float = 1.0) -> NDArray[np.uint8]:
    """What a camera makes of a (S, S, 3) float32 picture in [0, 1]: (S, S, 3) uint8.

    ``faults`` from 0 (none) to 1 (as much as is still readable).
    """
    if faults <= 0:
        return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    out = _light(rng, picture, faults)
    out = _colour(rng, out, faults)
    pixels = Image.fromarray((np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8))
    return _sensor(rng, pixels, faults)


def _light(rng: np.random.Generator, picture: Floats, faults: float) -> Floats:
    """Uneven light: a fall-off, or shadows with hard or soft edges."""
    size = len(picture)
    out = picture
    if rng.random() < 0.4 * faults:
        cells = int(rng.integers(2, 5))
        gain = clouds(rng, size, cells)[..., :1].astype(np.float32) / 255
        if rng.random() < 0.3:  # a hard shadow
            gain = np.clip((gain - rng.uniform(0.3, 0.7)) * rng.uniform(4, 40) + 0.5, 0, 1)
        low = 1 - rng.uniform(0.1, 0.65) * faults
        out = out * (low + (1.25 - low) * gain)
    return out


def _colour(rng: np.random.Generator, picture: Floats, faults: float) -> Floats:
    out = np.clip(picture, 0, 1) ** np.exp(rng.normal(0, 0.22 * faults))
    out = out * np.exp(rng.normal(0, 0.13 * faults, 3)).astype(np.float32)  # white balance
    contrast = np.exp(rng.normal(0, 0.2 * faults))
    out = (out - 0.5) * contrast + 0.5 + rng.normal(0, 0.07 * faults)
    grey = out @ _GREY
    share = rng.random()
    saturation = 0.0 if share < 0.12 * faults else float(np.exp(rng.normal(0, 0.3 * faults)))
    out = grey[..., None] + (out - grey[..., None]) * saturation
    if share > 1 - 0.04 * faults:  # sepia, cyanotype, a colour filter
        tone = np.clip(rng.normal(1, 0.25, 3), 0.4, 1.6).astype(np.float32)
        out = grey[..., None] * tone
    if rng.random() < 0.12 * faults:  # burnt out
        out = out * rng.uniform(1.1, 1.5)
    return out.astype(np.float32)


def _sensor(rng: np.random.Generator, picture: Image.Image, faults: float) -> NDArray[np.uint8]:
    size = picture.width
    kind = rng.random()
    if kind < 0.22 * faults:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.3, size / 60)))
    elif kind < 0.34 * faults:
        picture = picture.filter(ImageFilter.UnsharpMask(1.5, int(rng.integers(50, 250)), 2))
    if rng.random() < 0.25 * faults:
        low = int(size * rng.uniform(0.2, 0.8))
        how = Image.Resampling(int(rng.choice([0, 2, 3])))
        picture = picture.resize((low, low), Image.Resampling.BOX).resize((size, size), how)
    out = np.asarray(picture)
    if rng.random() < 0.4 * faults:
        channels = 3 if rng.random() < 0.6 else 1
        sigma = rng.exponential(6) + 1
        noise = rng.standard_normal((size, size, channels), dtype=np.float32) * np.float32(sigma)
        out = np.clip(out + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.35 * faults:
        buffer = io.BytesIO()
        Image.fromarray(out).save(buffer, "JPEG", quality=int(rng.integers(18, 90)))
        out = np.asarray(Image.open(buffer))
    return np.array(out)

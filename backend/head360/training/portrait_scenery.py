"""Backgrounds and cloths behind and on portraits: drawn, or cut from pictures without people."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from head360.datasets import labels as classes
from head360.training.portraits import PortraitSet

Floats = NDArray[np.floating]

# Of the free pictures that come with scikit-image those without a face. Others (coffee, rocket,
# clock) are kept for judging; a release that lacks one trains without it.
_SCENES = (
    "brick.png", "chelsea.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg",
    "ihc.png", "motorcycle_left.png", "motorcycle_right.png", "page.png", "text.png", "moon.png",
    "retina.jpg", "cell.png",
)  # fmt: skip
_LIGHT_SKIN, _DARK_SKIN = np.array([240.0, 200, 175]), np.array([80.0, 52, 38])


@cache
def scenes() -> tuple[Image.Image, ...]:
    """Pictures without people, RGB."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    paths = [folder / name for name in _SCENES]
    return tuple(Image.open(path).convert("RGB") for path in paths if path.is_file())


def colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,) 0–255, mostly muted as rooms and streets are."""
    grey = rng.uniform(0, 255)
    tint = rng.normal(0, rng.choice([8.0, 30.0, 80.0]), 3)
    return np.clip(grey + tint, 0, 255)


def clouds(rng: np.random.Generator, size: int, cells: int) -> NDArray[np.uint8]:
    """(S, S, 3) smooth noise of about ``cells`` bumps a side, channels apart."""
    small = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def background(rng: np.random.Generator, size: int, data: PortraitSet | None = None) -> Floats:
    """(S, S, 3) float32 in [0, 1]: something without a face.

    Args:
        rng: draws it.
        size: pixels per side.
        data: hair and skin of these, enlarged or seen from behind, may be part of it.
    """
    kind = rng.random()
    if kind < 0.14:
        out = np.broadcast_to(colour(rng), (size, size, 3)).astype(np.float32)
    elif kind < 0.34:
        out = _gradient(rng, size)
    elif kind < 0.58 and scenes():
        out = _scene(rng, size)
    elif kind < 0.68 and data is not None:
        out = _stuff(rng, size, data)
    else:
        out = _shapes(rng, size)
    if rng.random() < 0.35:
        cells = int(2 ** rng.uniform(1, 5))
        out = out + (clouds(rng, size, cells).astype(np.float32) - 128) * rng.uniform(0.05, 0.6)
    if rng.random() < 0.15:
        out = out.mean(2, keepdims=True).repeat(3, 2)
    return np.clip(out / 255, 0, 1).astype(np.float32)


def fabric(rng: np.random.Generator, size: int) -> Floats:
    """(S, S, 3) float32 in [0, 1]: cloth with folds, and stripes or checks now and then."""
    base = np.broadcast_to(colour(rng), (size, size, 3)).astype(np.float32)
    if rng.random() < 0.35:
        across = np.arange(size, dtype=np.float32)
        angle, period = rng.uniform(0, np.pi), rng.uniform(3, size / 4)
        phase = np.add.outer(across * np.sin(angle), across * np.cos(angle)) / period
        bands = (np.sin(2 * np.pi * phase) > rng.uniform(-0.8, 0.8)).astype(np.float32)
        if rng.random() < 0.3:
            phase = np.add.outer(across * np.cos(angle), -across * np.sin(angle)) / period
            bands = np.maximum(bands, (np.sin(2 * np.pi * phase) > 0).astype(np.float32))
        base = base + bands[..., None] * (colour(rng).astype(np.float32) - base)
    elif rng.random() < 0.2:
        base = clouds(rng, size, int(2 ** rng.uniform(2, 6))).astype(np.float32)
    elif rng.random() < 0.25:
        base = np.broadcast_to(skin_tone(rng), (size, size, 3)).astype(np.float32)
    folds = clouds(rng, size, int(rng.integers(2, 9)))[..., :1].astype(np.float32) / 255
    shade = 1 - rng.uniform(0.1, 0.7) * folds
    return np.clip(base * shade / 255, 0, 1).astype(np.float32)


def skin_tone(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,) 0–255 a hand's or shoulder's colour."""
    share = rng.random()
    return _LIGHT_SKIN * (1 - share) + _DARK_SKIN * share + rng.normal(0, 8, 3)


def _gradient(rng: np.random.Generator, size: int) -> Floats:
    corners = np.stack([colour(rng) for _ in range(4)]).reshape(2, 2, 3)
    if rng.random() < 0.6:  # a wall: one colour, brighter on one side
        corners = colour(rng) * rng.uniform(0.5, 1.3, (2, 2, 1))
    small = Image.fromarray(np.clip(corners, 0, 255).astype(np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)


def _scene(rng: np.random.Generator, size: int) -> Floats:
    picture = scenes()[int(rng.integers(len(scenes())))]
    side = int(min(picture.size) * rng.uniform(0.15, 1.0))
    left = int(rng.integers(0, picture.width - side + 1))
    top = int(rng.integers(0, picture.height - side + 1))
    box = (left, top, left + side, top + side)
    part = picture.resize((size, size), Image.Resampling.BILINEAR, box)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose(int(rng.integers(0, 7))))
    if rng.random() < 0.5:
        part = part.filter(ImageFilter.BoxBlur(rng.uniform(0.5, size / 20)))
    out = np.asarray(part, dtype=np.float32)
    if rng.random() < 0.4:  # another hour, another season
        out = out[..., rng.permutation(3)]
    return out


def _shapes(rng: np.random.Generator, size: int) -> Floats:
    """Boxes, discs and lines of all sizes, sharp or out of focus."""
    picture = Image.fromarray(_gradient(rng, size).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 16))):
        x, y = rng.uniform(-0.2 * size, 1.2 * size, 2)
        w, h = size * np.exp(rng.uniform(np.log(0.03), np.log(0.8), 2))
        fill = tuple(int(value) for value in colour(rng))
        kind = rng.random()
        if kind < 0.45:
            draw.rectangle([x - w / 2, y - h / 2, x + w / 2, y + h / 2], fill)
        elif kind < 0.75:
            draw.ellipse([x - w / 2, y - h / 2, x + w / 2, y + h / 2], fill)
        elif kind < 0.9:
            corners = rng.uniform(-0.2 * size, 1.2 * size, (2, 2))
            draw.line([tuple(c) for c in corners], fill, int(rng.integers(1, 10)))
        else:
            corners = np.array([x, y]) + rng.uniform(-0.4 * size, 0.4 * size, (5, 2))
            draw.polygon([tuple(c) for c in corners], fill)
    if rng.random() < 0.6:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.3, size / 12)))
    return np.asarray(picture, dtype=np.float32)


def _stuff(rng: np.random.Generator, size: int, data: PortraitSet) -> Floats:
    """A piece of somebody's hair or neck, much enlarged: like a face in colour alone."""
    row = int(data.rows[int(rng.integers(len(data.rows)))])
    ground = _gradient(rng, size)
    wanted = np.isin(data.labels[row], (classes.HAIR, classes.NECK))
    rows, columns = np.nonzero(wanted)
    if not len(rows):
        return ground
    pick = int(rng.integers(len(rows)))
    side = int(rng.uniform(12, 40))
    top = int(np.clip(rows[pick] - side // 2, 0, wanted.shape[0] - side))
    left = int(np.clip(columns[pick] - side // 2, 0, wanted.shape[1] - side))
    part = Image.fromarray(data.rgba[row][top : top + side, left : left + side])
    piece = np.asarray(part.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    alpha = piece[..., 3:] / 255
    return ground * (1 - alpha) + piece[..., :3] * alpha

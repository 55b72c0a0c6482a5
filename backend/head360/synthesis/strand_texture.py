"""Procedural hair textures: strips of strands with a cut-out mask, and patches of short fibres.

The picture is 512² with rows from root (top) to tip. Its left three quarters hold eight strips for
ribbons, its right quarter eight patches of rising density for the undercoat on the scalp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIZE = 512
STRIPS = 8
STRIP_WIDTH = 48  # texels
SOLID = 7  # the strip without holes, for tubes and cores
WISPY = 6  # the strip of single hairs
PATCHES = 8
PATCH_WIDTH, PATCH_HEIGHT = SIZE - STRIPS * STRIP_WIDTH, SIZE // PATCHES
PATCH_TEXEL = 0.00028  # metres of scalp per texel


@dataclass(frozen=True)
class StrandLook:
    """How the strands of a texture look.

    Attributes:
        colour: (3,) sRGB 0–255 of the middle of a strand.
        root, tip: factors on the colour at both ends.
        tip_tint: (3,) further factors at the tip: bleached or dyed ends.
        contrast: spread of brightness between strands (log scale).
        grey: share of white strands, 0…1.
        streaks: share of strands lightened by half.
        rag: how unequal the strands of a lock end, 0 blunt … 1.
        taper: how much a lock closes towards its tip, 0…1.
        wave: texels a strand swings sideways; ``turns``: swings along a strand.
        frizz: whether strands swing each for themselves.
        stubble: length of the undercoat's fibres in texels.
        cover: opacity of the densest undercoat patch, 0…1.
        undercoat: factor on the colour of the undercoat.
    """

    colour: tuple[int, int, int] = (70, 48, 34)
    root: float = 0.72
    tip: float = 1.12
    tip_tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 0.20
    grey: float = 0.0
    streaks: float = 0.0
    rag: float = 0.3
    taper: float = 0.5
    wave: float = 1.0
    turns: float = 1.5
    frizz: bool = False
    stubble: int = 5
    cover: float = 1.0
    undercoat: float = 0.62


def strand_texture(look: StrandLook, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a texture.

    Returns:
        (512, 512, 3) uint8 sRGB, filled everywhere, and (512, 512) uint8 mask (0 or 255).
    """
    rng = np.random.default_rng(seed)
    base = np.array(look.colour, dtype=np.float32)
    colour = np.empty((SIZE, SIZE, 3), dtype=np.float32)
    colour[:] = base * (look.undercoat + 0.12 * _fairness(look))
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    for strip in range(STRIPS):
        columns = slice(strip * STRIP_WIDTH, (strip + 1) * STRIP_WIDTH)
        _strip(colour[:, columns], mask[:, columns], look, strip, rng)
    for patch in range(PATCHES):
        rows = slice(SIZE - (patch + 1) * PATCH_HEIGHT, SIZE - patch * PATCH_HEIGHT)
        share = look.cover * (patch + 1) / PATCHES
        _patch(colour[rows, -PATCH_WIDTH:], mask[rows, -PATCH_WIDTH:], look, share, rng)
    return (
        np.clip(colour, 0, 255).astype(np.uint8),
        np.where(mask, 255, 0).astype(np.uint8),
    )


def _fairness(look: StrandLook) -> float:
    """0 for black … 1 for white hair."""
    return min(sum(look.colour) / 600, 1.0)


def _tones(look: StrandLook, count: int, rng: np.random.Generator) -> Floats:
    """(count, 3) sRGB of single strands."""
    # Fair hair scatters light among its strands: the same spread would look like string.
    light = np.exp(look.contrast * (1 - 0.55 * _fairness(look)) * rng.standard_normal(count))
    tones = np.array(look.colour, dtype=np.float64) * light[:, None]
    tones *= 1 + 0.05 * rng.standard_normal((count, 1)) * np.array([1.0, 0.0, -1.0])
    streak = rng.random(count) < look.streaks
    tones[streak] = tones[streak] * 1.15 + 18
    white = rng.random(count) < look.grey
    tones[white] = np.array([188.0, 186.0, 182.0]) * (0.75 + 0.4 * rng.random((count, 1)))[white]
    return tones.astype(np.float32)


def _strip(
    colour: Floats, mask: NDArray[np.bool_], look: StrandLook, strip: int, rng: np.random.Generator
) -> None:
    """Draw one strip into views of the picture: strands behind first."""
    if strip == SOLID:
        mask[:] = True
    count = {SOLID: 44, WISPY: 7}.get(strip, 34 if strip < 4 else 20)
    along = np.linspace(0, 1, SIZE, dtype=np.float32)
    across = np.arange(STRIP_WIDTH, dtype=np.float32)
    tones = _tones(look, count, rng)
    gradient = np.interp(along, [0, 0.3, 1], [look.root, 1.0, look.tip])[:, None]
    tint = 1 + smooth_ramp(along, 0.35, 0.9)[:, None] * (np.array(look.tip_tint) - 1)
    gradient = (gradient * tint).astype(np.float32)
    middle = (STRIP_WIDTH - 1) / 2
    # Neighbours in a lock swing together unless the hair is frizzy.
    common = rng.random() * 6.283
    for strand in range(count):
        start = 3.0 + (STRIP_WIDTH - 7.0) * rng.random()
        closing = 1 - look.taper * along**1.6 * (0 if strip == SOLID else 1)
        phase = 6.283 * rng.random() if look.frizz else common + 0.9 * rng.standard_normal()
        swing = look.wave * (0.6 + 0.8 * rng.random()) * np.minimum(along * 4, 1)
        turns = look.turns * (0.85 + 0.3 * rng.random())
        place = middle + (start - middle) * closing
        place = place + swing * np.sin(6.283 * turns * along + phase)
        end = 1.0 - look.rag * rng.random() ** 1.3 - 0.01
        begin = 0.0 if strip == SOLID else 0.14 * rng.random() ** 2
        closed = np.clip((end - along) * 9, 0, 1) * np.clip((along - begin) * 22 + 0.15, 0, 1)
        half = (0.9 + 0.9 * rng.random()) * closed**0.5
        off = np.abs(across[None] - place[:, None])
        hit = (off < half[:, None]) & ((along < end) & (along >= begin))[:, None]
        rounding = 1 - 0.28 * (off / np.maximum(half[:, None], 0.3)) ** 2
        drawn = tones[strand] * gradient[:, None] * rounding[..., None]
        colour[hit] = drawn[hit]
        mask |= hit


def smooth_ramp(value: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, smooth between."""
    x = np.clip((value - low) / (high - low), 0, 1)
    return (x * x * (3 - 2 * x)).astype(np.float32)


def _patch(
    colour: Floats, mask: NDArray[np.bool_], look: StrandLook, share: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Scatter fibres until ``share`` of the patch is covered."""
    height, width = mask.shape
    if share > 0.99:
        mask[:] = True
    length = max(2, look.stubble)
    wanted = -np.log(max(1 - min(share, 0.97), 0.03)) * height * width / (1.5 * length)
    # One fibre per cell of a jittered grid: an even scatter averages to an even tone.
    rows, columns = (
        max(2, round(np.sqrt(wanted * ratio))) for ratio in (height / width, width / height)
    )
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1)
    place = (grid.reshape(-1, 2) + rng.random((rows * columns, 2))) / [rows, columns]
    y, x = place[:, 0] * height, place[:, 1] * width
    # Sparse stubble is seen through skin and lit from all around: it is paler.
    tones = _tones(look, len(x), rng) * look.undercoat * (1 + 0.8 * (1 - share))
    lean = 0.35 * rng.standard_normal(len(x))
    for step in range(length):
        row = (y + step).astype(int) % height
        column = (x + lean * step).astype(int) % width
        for wide in (0, 1) if length > 4 else (0,):
            colour[row, (column + wide) % width] = tones
            mask[row, (column + wide) % width] = True

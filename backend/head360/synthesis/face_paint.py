"""Finer paint on eyes, lids and lips: veins, limbal rings, lash lines, creased lips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from head360.geometry.atlas import ATLAS_TILES, UNIT, tile_rectangle
from head360.synthesis.blur import blur, window_of
from head360.synthesis.texel_map import Floats, Mask, SurfaceMap, smooth_step

_LIMBUS = 0.41  # radius of the iris disc in its tile, in tile widths
_VEINS = 26  # per eye
_LIP_OUTLINE = slice(48, 60)  # of the 68 landmarks


@dataclass(frozen=True)
class LashLine:
    """Texels of the rims of the lids: (P,) ``rows`` and ``columns``, and ``cover`` 0…1."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    cover: NDArray[np.float64]

    @staticmethod
    def of(surface: SurfaceMap, lashes: Floats) -> LashLine:
        """The skin around the roots of the lashes; the upper lids' is darker.

        Args:
            surface: of the generic head.
            lashes: (L, 3) float32 vertices of the lashes on the generic head, metres.
        """
        points = surface.positions
        near = surface.on("face") & (points[..., 2] > 0.07)
        near &= np.abs(points[..., 1] - 0.013) < 0.02
        rows, columns = np.nonzero(near)
        texels = points[rows, columns]
        roots = lashes[cKDTree(texels).query(lashes)[0] < 0.0008]
        if not len(roots):
            return LashLine(rows[:0], columns[:0], np.zeros(0))
        distance, which = cKDTree(roots).query(texels, distance_upper_bound=0.004)
        close = np.isfinite(distance)
        cover = 0.62 * np.exp(-((distance[close] / 0.0009) ** 2))
        cover *= np.where(roots[which[close], 1] > 0.0135, 1.0, 0.45)
        return LashLine(rows[close], columns[close], cover)

    def paint(self, paint: Floats, colour: Floats) -> None:
        """Draw the line onto (R, R, 3) float32 ``paint``, in place."""
        at = self.rows, self.columns
        paint[at] += self.cover[:, None] * (colour - paint[at])


def paint_face(
    atlas: NDArray[np.uint8],
    surface: SurfaceMap,
    lips: Floats,
    lashes: LashLine,
    seed: int,
    lash: Floats,
) -> None:
    """Paint the finer things of a face onto ``atlas``, in place.

    Args:
        atlas: (R, R, 3) uint8 sRGB, top row first, skin and eyes on it.
        surface: of the same size.
        lips: (R, R) of :func:`lip_mask`.
        lashes: where they root.
        seed: of this subject's eyes and lips.
        lash: (3,) colour of the lash line, 0–255.
    """
    rng = np.random.default_rng([seed, 72])
    paint = atlas.astype(np.float32)
    _eyeballs(paint, surface, rng)
    for side in ("left", "right"):
        _limbal_ring(paint, f"iris_{side}")
    lashes.paint(paint, lash)
    _lips(paint, lips, rng)
    atlas[:] = np.clip(paint, 0, 255).astype(np.uint8)


def lip_mask(surface: SurfaceMap, skin: Mask, soft: float = 1.6) -> Floats:
    """(R, R) float32 share of each texel that is lip, ``soft`` texels wide at its edge."""
    outline = surface.landmarks[_LIP_OUTLINE, :2].astype(np.float64)
    low, high = outline.min(0), outline.max(0)
    points = surface.positions
    near = skin & (points[..., 2] > 0.085)
    for axis in (0, 1):
        near &= (points[..., axis] > low[axis]) & (points[..., axis] < high[axis])
    x, y = points[near][:, 0], points[near][:, 1]
    inside = np.zeros(len(x), dtype=np.bool_)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, 0), strict=True):
        # A ray to the right crosses the outline an odd number of times from inside.
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0 + 1e-12) + x0)
    mask = np.zeros(skin.shape, dtype=np.float32)
    mask[near] = inside
    soft_mask: Floats = blur(mask, soft)
    return soft_mask


def _eyeballs(paint: Floats, surface: SurfaceMap, rng: np.random.Generator) -> None:
    """Warm the whites towards their corners and draw a few veins from there."""
    for side, inner in (("left", -1.0), ("right", 1.0)):
        white = surface.on(f"eyeball_{side}") & _tile_mask(surface.size, f"sclera_{side}")
        points = surface.positions[white]
        low, high = points.min(0), points.max(0)
        centre, radius = (low + high) / 2, float((high - low).max() / 2)
        local = (points - centre) / radius
        corner = smooth_step(np.abs(local[:, 0]), 0.40, 0.85)
        towards_nose = smooth_step(local[:, 0] * inner, 0.55, 0.9)
        tint = np.outer(corner, (0.005, 0.05, 0.05)) + np.outer(towards_nose, (0.01, 0.09, 0.08))
        colour = paint[white] * (1 - tint)
        distance = cKDTree(_veins(rng, inner)).query(local, distance_upper_bound=0.1)[0]
        strength = np.exp(-((np.minimum(distance, 1.0) / 0.014) ** 2)) * smooth_step(
            np.abs(local[:, 0]), 0.45, 0.8
        )
        paint[white] = colour * (1 - np.outer(strength, (0.02, 0.13, 0.12)))


def _veins(rng: np.random.Generator, inner: float) -> Floats:
    """(P, 3) points on the unit sphere along wavy lines from both corners towards the iris."""
    lines = []
    for number in range(_VEINS):
        side = inner if number % 2 else -inner
        longitude = np.linspace(1.25, rng.uniform(0.62, 0.95), 60)
        latitude = rng.uniform(-0.5, 0.5) * (1 - 0.25 * np.linspace(0, 1, 60))
        latitude = latitude + 0.02 * np.cumsum(rng.normal(size=60)) / np.sqrt(10)
        lines.append(
            np.stack(
                [
                    side * np.sin(longitude) * np.cos(latitude),
                    np.sin(latitude),
                    np.cos(longitude) * np.cos(latitude),
                ],
                1,
            )
        )
    return np.concatenate(lines).astype(np.float32)


def _tile_mask(size: int, tile: str) -> Mask:
    x, y, w, h = (value * size // UNIT for value in ATLAS_TILES[tile])
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[size - y - h : size - y, x : x + w] = True
    return mask


def _limbal_ring(paint: Floats, tile: str) -> None:
    """Darken the rim of the iris: without it eyes look printed."""
    size = len(paint)
    u0, v0, u1, v1 = tile_rectangle(tile)
    rows, columns = np.nonzero(_tile_mask(size, tile))
    u = ((columns + 0.5) / size - u0) / (u1 - u0)
    v = (1 - (rows + 0.5) / size - v0) / (v1 - v0)
    radius = np.hypot(u - 0.5, v - 0.5) / _LIMBUS
    ring = smooth_step(radius, 0.74, 0.97)
    paint[rows, columns] *= (1 - np.outer(ring, (0.52, 0.48, 0.42))).astype(np.float32)


def _lips(paint: Floats, lips: Floats, rng: np.random.Generator) -> None:
    """Lips a little richer than the skin pictures have them, with fine upright creases."""
    window = window_of(lips > 0, 0)
    cover, skin = lips[window][..., None], paint[window]
    grey = np.ascontiguousarray(skin) @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    rich = grey[..., None] + (skin - grey[..., None]) * rng.uniform(1.06, 1.18)
    rich *= np.array([1.0, 0.94, 0.95], dtype=np.float32) * rng.uniform(0.93, 0.99)
    noise = blur(rng.normal(size=lips.shape), (2.5, 0.8)).astype(np.float32)
    rich *= 1 + 0.022 * (noise[window] / noise.std())[..., None]
    skin += cover * (rich - skin)

"""Eyebrows as paint: the cover of the fitted cards, and single strands drawn over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from head360.geometry.topology import Topology
from head360.synthesis.blur import blur, window_of
from head360.synthesis.texel_map import Floats, SurfaceMap

_OVERSAMPLE = 4  # sub-texels per axis that strands are drawn on
_NEAREST = 12  # triangles by centroid among which the closest one is looked for
_STRANDS_PER_TEXEL = 0.42  # of covered area
_LENGTH = (6.0, 11.0)  # texels of a 1024² atlas
# Direction of growth from the nose outwards, degrees above the horizontal.
_SWEEP_AT, _SWEEP = (0.0, 0.15, 0.4, 0.7, 1.0), (82.0, 62.0, 28.0, 4.0, -20.0)


@dataclass(frozen=True)
class BrowCards:
    """One brow style as fitted on the generic head.

    Attributes:
        vertices: (N, 3) float64 centimetres; uvs: (U, 2) float64.
        corners, corner_uvs: (F, 3) int32.
        alpha: (H, W) uint8, top row first.
    """

    vertices: NDArray[np.float64]
    uvs: NDArray[np.float64]
    corners: NDArray[np.int32]
    corner_uvs: NDArray[np.int32]
    alpha: NDArray[np.uint8]


def brow_cover(topology: Topology, generic: Floats, cards: BrowCards, size: int) -> Floats:
    """(size, size) float32 share of each texel that the brows cover, before any strength."""
    alpha = cards.alpha.astype(np.float32) / 255
    steps = 26
    i, j = np.meshgrid(np.arange(steps), np.arange(steps), indexing="ij")
    keep = i + j < steps
    wa, wb = (i[keep] + 1 / 3) / steps, (j[keep] + 1 / 3) / steps
    weights = np.stack([wa, wb, 1 - wa - wb], 1)
    points = np.einsum("kc,fcd->fkd", weights, cards.vertices[cards.corners]).reshape(-1, 3)
    points = (points - [0.0, 2.0, 0.0]) * 0.01
    uv = np.einsum("kc,fcd->fkd", weights, cards.uvs[cards.corner_uvs]).reshape(-1, 2)
    value = alpha[
        np.clip(((1 - uv[:, 1]) * alpha.shape[0]).astype(int), 0, alpha.shape[0] - 1),
        np.clip((uv[:, 0] * alpha.shape[1]).astype(int), 0, alpha.shape[1] - 1),
    ]
    faces = topology.part_faces("face")
    face, bary = _closest(points, generic.astype(np.float64)[topology.faces[faces]])
    atlas_uv = np.einsum("pc,pcd->pd", bary, topology.uvs[topology.face_uvs[faces][face]])
    column = np.clip((atlas_uv[:, 0] * size).astype(int), 0, size - 1)
    row = np.clip(((1 - atlas_uv[:, 1]) * size).astype(int), 0, size - 1)
    total = np.zeros((size, size), dtype=np.float32)
    count = np.zeros((size, size), dtype=np.float32)
    np.add.at(total, (row, column), value)
    np.add.at(count, (row, column), 1.0)
    window = window_of(count > 0, 8)
    count, total = count[window], total[window]
    # Spread a little: samples are denser than texels, but not on every single one.
    share = blur(total, 0.8) / np.maximum(blur(count, 0.8), 1e-3)
    share *= blur((count > 0).astype(np.float32), 0.8) > 0.3
    cover = np.zeros((size, size), dtype=np.float32)
    cover[window] = share
    return cover


def _closest(
    points: NDArray[np.float64], triangles: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(P,) nearest of (F, 3, 3) triangles to (P, 3) points, and (P, 3) weights of its corners."""
    nearest = min(_NEAREST, len(triangles))
    _, candidates = cKDTree(triangles.mean(1)).query(points, k=nearest)
    return _closest_of(points, triangles, candidates)


@njit(cache=True)
def _closest_of(points, triangles, candidates):  # type: ignore[no-untyped-def]
    """As ``geometry.attach`` finds it, to the last bit, for the many points of brow cards."""
    count = points.shape[0]
    faces, weights = np.zeros(count, dtype=np.int64), np.zeros((count, 3))
    w = np.empty(3)
    for p in range(count):
        best = np.inf
        for k in range(candidates.shape[1]):
            corners = triangles[candidates[p, k]]
            _weights(points[p], corners, w)
            away = 0.0
            for axis in range(3):
                foot = w[0] * corners[0, axis] + w[1] * corners[1, axis] + w[2] * corners[2, axis]
                away += (points[p, axis] - foot) * (points[p, axis] - foot)
            away = np.sqrt(away)
            if away < best:
                best = away
                faces[p] = candidates[p, k]
                weights[p, 0], weights[p, 1], weights[p, 2] = w[0], w[1], w[2]
    return faces, weights


@njit(cache=True)
def _weights(point, corners, out):  # type: ignore[no-untyped-def]
    """Weights of the corners at the point of a triangle that is closest to ``point``."""
    d00 = d01 = d11 = d20 = d21 = 0.0
    for axis in range(3):
        ab = corners[1, axis] - corners[0, axis]
        ac = corners[2, axis] - corners[0, axis]
        ap = point[axis] - corners[0, axis]
        d00 += ab * ab
        d01 += ab * ac
        d11 += ac * ac
        d20 += ap * ab
        d21 += ap * ac
    scale = max(d00 * d11 - d01 * d01, 1e-24)
    out[1] = (d11 * d20 - d01 * d21) / scale
    out[2] = (d00 * d21 - d01 * d20) / scale
    out[0] = 1 - out[1] - out[2]
    if min(out[0], out[1], out[2]) >= 0:
        return
    best = np.inf
    for edge in range(3):
        first, second = corners[edge], corners[(edge + 1) % 3]
        along = length = 0.0
        for axis in range(3):
            along += (point[axis] - first[axis]) * (second[axis] - first[axis])
            length += (second[axis] - first[axis]) * (second[axis] - first[axis])
        t = min(max(along / max(length, 1e-24), 0.0), 1.0)
        away = 0.0
        for axis in range(3):
            d = point[axis] - first[axis] - t * (second[axis] - first[axis])
            away += d * d
        if away < best:
            best = away
            out[:] = 0.0
            out[edge], out[(edge + 1) % 3] = 1 - t, t


def soft_strength(cover: Floats) -> Floats:
    """How much of a texel the first look's brows hide; also what parsing calls brow."""
    strength: Floats = np.clip(cover * 1.15, 0, 0.92)
    return strength


def paint_soft(atlas: NDArray[np.uint8], cover: Floats, colour: tuple[int, int, int]) -> None:
    """Brows as an even tint, the first look's, in place."""
    window = window_of(cover > 0, 0)
    strength = soft_strength(cover[window])[..., None]
    paint = np.array(colour, dtype=np.float32)
    atlas[window] = (atlas[window] * (1 - strength) + paint * strength).astype(np.uint8)


def paint_strands(
    atlas: NDArray[np.uint8],
    cover: Floats,
    surface: SurfaceMap,
    colour: tuple[int, int, int],
    seed: int,
) -> None:
    """Brows as single hairs over a faint shade, in place.

    Args:
        atlas: (R, R, 3) uint8 sRGB.
        cover: (R, R) from :func:`brow_cover`.
        surface: of the same size.
        colour: of the hairs, sRGB 0–255; they vary a little around it.
        seed: of the strands.
    """
    rng = np.random.default_rng([seed, 73])
    # Only the brows' part of the pictures: cover, place and paint are views into it.
    part = window_of(cover > 0, 30)
    atlas, places = atlas[part], surface.positions[part]
    cover = np.clip(cover[part], 0, 1)
    for side in (-1, 1):
        half = np.where(places[..., 0] * side > 0, cover, np.float32(0))
        rows, columns = np.nonzero(half > 0.02)
        if not len(rows):
            continue
        top, bottom = max(rows.min() - 14, 0), rows.max() + 15
        left, right = max(columns.min() - 14, 0), columns.max() + 15
        window = (slice(top, bottom), slice(left, right))
        hairs, ink = _strands(half[window], places[window], side, colour, rng)
        shade = 0.42 * np.clip(blur(half[window], 1.2), 0, 1)
        share = (1 - (1 - shade) * (1 - 0.88 * hairs))[..., None]
        tint = (hairs[..., None] * ink + 0.25 * np.array(colour)) / (hairs[..., None] + 0.25)
        mixed = atlas[window] * (1 - share) + tint * share
        atlas[window] = np.clip(mixed, 0, 255).astype(np.uint8)


def _strands(
    cover: Floats,
    positions: Floats,
    side: int,
    colour: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """(h, w) coverage by hairs and (h, w, 3) their colour, drawn where ``cover`` is."""
    height, width = cover.shape
    weight = (cover**1.3).ravel() / (cover**1.3).sum()
    count = int(cover.sum() * _STRANDS_PER_TEXEL)
    chosen = rng.choice(len(weight), size=count, p=weight)
    start = np.stack([chosen % width, chosen // width], 1) + rng.random((count, 2))
    across = np.abs(positions[..., 0])
    inner, outer = across[cover > 0.1].min(), across[cover > 0.1].max()
    share = np.clip((across.ravel()[chosen] - inner) / (outer - inner), 0, 1)
    # Hairs of the upper edge lean down onto the brow, those of the lower edge up.
    rows = np.arange(height)[:, None]
    middle = (cover * rows).sum(0) / np.maximum(cover.sum(0), 1e-6)
    above = (middle[chosen % width] - chosen // width) / max(height / 8, 1.0)
    angle = np.radians(
        np.interp(share, _SWEEP_AT, _SWEEP) - 16 * np.clip(above, -1, 1) + rng.normal(0, 8, count)
    )
    length = rng.uniform(*_LENGTH, count) * (0.75 + 0.5 * share)
    bend = rng.normal(-0.35, 0.2, count)  # radians from root to tip: hairs curl outwards and down
    mask = Image.new("L", (width * _OVERSAMPLE, height * _OVERSAMPLE))
    tint = Image.new("RGB", mask.size, colour)
    on_mask, on_tint = ImageDraw.Draw(mask), ImageDraw.Draw(tint)
    gain = np.clip(rng.normal(1.0, 0.16, count), 0.6, 1.5)
    pieces = 5
    for k in range(count):
        point = start[k] * _OVERSAMPLE - length[k] * 0.4 * _OVERSAMPLE * _heading(angle[k], side)
        ink = tuple(int(min(255, channel * gain[k])) for channel in colour)
        for piece in range(pieces):
            heading = _heading(angle[k] + bend[k] * piece / pieces, side)
            following = point + heading * length[k] / pieces * _OVERSAMPLE
            line = [*point.tolist(), *following.tolist()]
            thick = 3 if piece < 3 else 2
            on_mask.line(line, fill=235 if piece < 4 else 150, width=thick)
            on_tint.line(line, fill=ink, width=thick)
            point = following
    small = (width, height)
    hairs: Floats = np.asarray(mask.resize(small, Image.Resampling.BOX), dtype=np.float32)
    ink_map = np.asarray(tint.resize(small, Image.Resampling.BOX), dtype=np.float32)
    return (hairs / 255).astype(np.float32), ink_map


def _heading(angle: float, side: int) -> NDArray[np.float64]:
    """Unit (column, row) step: outwards on ``side`` and up."""
    return np.array([side * np.cos(angle), -np.sin(angle)])

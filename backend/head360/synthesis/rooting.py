"""Where hair grows: cover of the scalp, lengths by zone, roots, and the scalp's triangles."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from head360.synthesis.growth import Growth
from head360.synthesis.ribbons import unit
from head360.synthesis.scalp import CENTRE, Scalp, above_hairline, angles, smooth

Doubles = NDArray[np.float64]

_CANDIDATES = 7  # per root, thinned to an even scatter


def cover_at(growth: Growth, points: Doubles) -> Doubles:
    """(M,) 0…1 how much hair grows at points of the skin, cut short or not."""
    above = above_hairline(points, growth.recede, growth.peak)
    cover = smooth(-1.0, 5.5, above)
    if growth.bald:
        crown = unit(np.array([0.0, 0.93, -0.30]))
        apart = np.degrees(np.arccos(np.clip(unit(points - CENTRE) @ crown, -1, 1)))
        cover = cover * smooth(growth.bald - 6, growth.bald + 6, apart)
    return cover


def fullness_at(growth: Growth, points: Doubles) -> Doubles:
    """(M,) 0…1 where hair keeps its length: above a fade, on the strip of a mohawk."""
    full = np.ones(len(points))
    if growth.fade is not None:
        azimuth, elevation = angles(points)
        # Barbers carry a fade lower behind the ears.
        lower = 14 * smooth(95, 150, np.abs(azimuth))
        full = smooth(growth.fade[0], growth.fade[1], elevation + lower)
    if growth.strip is not None:
        full = full * smooth(growth.strip + 0.005, growth.strip - 0.003, np.abs(points[:, 0]))
    return full


def length_at(growth: Growth, points: Doubles) -> Doubles:
    """(M,) metres a strand rooted at ``points`` is long."""
    azimuth, elevation = angles(points)
    side = np.abs(azimuth)
    zone = growth.lengths
    low = zone.side + (zone.back - zone.side) * smooth(95, 145, side)
    # Behind, the long hair of the top begins higher: the crown would hang over the nape.
    start = 28 + 22 * smooth(95, 140, side)
    length = low + (zone.top - low) * smooth(0.0, 28.0, elevation - start)
    front = (1 - smooth(34, 62, side)) * (1 - smooth(48, 74, elevation))
    return length + (zone.front - length) * front


def scattered_roots(
    growth: Growth, scalp: Scalp, rng: np.random.Generator
) -> tuple[Doubles, Doubles]:
    """Evenly scattered roots (S, 3) with normals (S, 3)."""
    corners = scalp.vertices[scalp.faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    face = rng.choice(len(area), growth.count * _CANDIDATES, p=area / area.sum())
    weight = rng.dirichlet((1.0, 1.0, 1.0), len(face))
    points = (weight[:, :, None] * corners[face]).sum(1)
    normals = unit((weight[:, :, None] * scalp.normals[scalp.faces[face]]).sum(1))
    share = cover_at(growth, points) * fullness_at(growth, points)
    keep = rng.random(len(points)) < np.clip(share, 0, 1)
    points, normals = points[keep], normals[keep]
    # The largest spacing that still leaves as many as were asked for.
    low, high = 0.0005, 0.02
    chosen = np.arange(len(points))
    for _ in range(10):
        spacing = 0.5 * (low + high)
        kept = _thinned(points, spacing)
        if len(kept) >= growth.count:
            low, chosen = spacing, kept
        else:
            high = spacing
    chosen = chosen[: growth.count]
    return points[chosen], normals[chosen]


@njit(cache=True)
def _thinned(points, spacing):  # type: ignore[no-untyped-def]
    """Indices of points, in order, none nearer than ``spacing`` to one kept before."""
    kept = np.empty(len(points), dtype=np.int64)
    count = 0
    limit = spacing * spacing
    for i in range(len(points)):
        free = True
        for k in range(count):
            j = kept[k]
            dx = points[i, 0] - points[j, 0]
            dy = points[i, 1] - points[j, 1]
            dz = points[i, 2] - points[j, 2]
            if dx * dx + dy * dy + dz * dz < limit:
                free = False
                break
        if free:
            kept[count] = i
            count += 1
    return kept[:count]


def refined_scalp(growth: Growth, scalp: Scalp) -> tuple[Doubles, Doubles]:
    """(F', 3, 3) corners and normals of the scalp, finer where the cover changes."""
    corners, normals = scalp.vertices[scalp.faces], scalp.normals[scalp.faces]
    done_corners, done_normals = [], []
    for _ in range(2):
        value = _marks(growth, corners.reshape(-1, 3)).reshape(-1, 3)
        centre = _marks(growth, corners.mean(1))
        spread = np.maximum(np.abs(value - centre[:, None]).max(1), np.ptp(value, axis=1))
        size = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max(1)
        split = (spread > 0.14) & (size > 0.006)
        done_corners.append(corners[~split])
        done_normals.append(normals[~split])
        corners, normals = _quartered(corners[split]), unit(_quartered(normals[split]))
    return np.concatenate([*done_corners, corners]), np.concatenate([*done_normals, normals])


def _marks(growth: Growth, points: Doubles) -> Doubles:
    mark = cover_at(growth, points) * (0.3 + 0.7 * fullness_at(growth, points))
    if growth.comb == "part":
        line = smooth(0.005, 0.0, np.abs(points[:, 0] - growth.part))
        mark = mark * (1 - 0.8 * line * (points[:, 2] > -0.05))
    return mark


def _quartered(corners: Doubles) -> Doubles:
    """(F, 3, 3) triangles → (4 F, 3, 3), halved along every edge."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    return np.concatenate(
        [np.stack(three, 1) for three in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    )

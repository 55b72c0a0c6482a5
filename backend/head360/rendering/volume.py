"""Rays, sample placement and compositing of two density fields: head and hair.

Rays are parametrised by planar depth in metres, so depth needs no conversion: the point at depth z
is ``origin + z · direction`` in normalised space. Each field has samples of its own, with its own
spacing; sorted together by depth, their opacities are composited as one medium whose density is
the sum of both (quadrature of ∫σ over the union of the two sample sets).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from head360.rendering.cameras import BOX_HALF, Camera, to_normalised

Floats = NDArray[np.float32]

GRID = 96  # cells per axis of a hair occupancy grid
# Samples on the head start this far in front of the mesh and end this far behind (normalised).
BAND_FRONT, BAND_BACK = 0.035, 0.045
HAIR_REACH = 0.15  # normalised length of occupied ray that is sampled
HAIR_BIAS = 1.3  # exponent that widens the strata of hair samples with depth


@dataclass(frozen=True)
class Rays:
    """Rays of a window of an image.

    Attributes:
        origin: (3,) float32, normalised space.
        directions: (R, 3) float32; normalised units per metre of planar depth.
    """

    origin: Floats
    directions: Floats


def camera_rays(
    camera: Camera, width: int, height: int, window: tuple[int, int, int, int] | None = None
) -> Rays:
    """Rays through pixel centres, row by row, of ``window`` = (left, top, right, bottom)."""
    left, top, right, bottom = window or (0, 0, width, height)
    u = (np.arange(left, right) + 0.5) / width
    v = (np.arange(top, bottom) + 0.5) / height
    grid = np.stack(np.meshgrid(u, v), -1).reshape(-1, 2)
    local = np.concatenate([grid, np.ones((len(grid), 1))], 1) @ np.linalg.inv(camera.intrinsics).T
    directions = local @ camera.cam2world[:3, :3].T / BOX_HALF
    return Rays(to_normalised(camera.position).astype(np.float32), directions.astype(np.float32))


@dataclass(frozen=True)
class Samples:
    """Where a field is evaluated: R rays × K slots, unused slots have zero spacing.

    Attributes:
        depth: (R, K) float32 planar depth, metres.
        spacing: (R, K) float32 length of ray that each sample stands for, normalised units.
    """

    depth: Floats
    spacing: Floats


def head_samples(
    mesh_depth: Floats, rays: Rays, count: int, rng: np.random.Generator | None
) -> tuple[Samples, NDArray[np.bool_]]:
    """Samples in a thin band around the mesh.

    Args:
        mesh_depth: (h, w) float32 planar depth of the rasterised mesh, +inf where it is missed.
        rays: of the same window.
        count: samples per ray.
        rng: jitters the samples; None puts them at the middle of their strata.

    Returns:
        The samples and the (R,) mask of rays that truly hit the mesh. Rays beside the mesh by one
        pixel get samples too, at their nearest neighbour's depth, so that silhouettes stay soft.
    """
    padded = np.pad(mesh_depth, 1, constant_values=np.inf)
    h, w = mesh_depth.shape
    nearest = np.minimum.reduce(
        [padded[dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3)]
    )
    hit = np.isfinite(mesh_depth)
    depth = np.where(hit, mesh_depth, nearest).reshape(-1)
    used = np.isfinite(depth)
    length = np.linalg.norm(rays.directions, axis=1)
    strata = np.arange(count, dtype=np.float32)[None]
    jitter = 0.5 if rng is None else rng.random((len(depth), count), dtype=np.float32)
    offset = -BAND_FRONT + (strata + jitter) / count * (BAND_FRONT + BAND_BACK)
    with np.errstate(invalid="ignore"):
        z = np.where(used[:, None], depth[:, None] + offset / length[:, None], np.inf)
    spacing = np.where(used[:, None], (BAND_FRONT + BAND_BACK) / count, 0.0)
    spacing = np.broadcast_to(spacing, z.shape)
    return Samples(z.astype(np.float32), spacing.astype(np.float32)), hit.reshape(-1)


def hair_samples(
    occupancy: NDArray[np.uint8],
    rays: Rays,
    stop_depth: Floats,
    count: int,
    rng: np.random.Generator | None,
) -> Samples:
    """Samples over the first stretch of each ray that crosses occupied cells.

    Hair is nearly opaque: what a picture shows lies within ``HAIR_REACH`` of occupied length behind
    the first occupied cell. The strata widen with depth (``HAIR_BIAS``), so that the outline gets
    most of the samples. Empty cells in between cost nothing: fringe and far side are both reached.

    Args:
        occupancy: (GRID, GRID, GRID) uint8 indexed [z, y, x] over normalised space.
        rays: to sample.
        stop_depth: (R,) float32 planar depth beyond which nothing is visible (+inf: none).
        count: samples per ray.
        rng: jitter, or None.
    """
    total = len(rays.directions)
    jitter = (
        np.full((total, count), 0.5, dtype=np.float32)
        if rng is None
        else rng.random((total, count), dtype=np.float32)
    )
    depth = np.full((total, count), np.inf, dtype=np.float32)
    spacing = np.zeros((total, count), dtype=np.float32)
    _march(occupancy, rays.origin, rays.directions, stop_depth, jitter, depth, spacing)
    return Samples(depth, spacing)


@njit(parallel=True, cache=True)
def _march(occupancy, origin, directions, stop_depth, jitter, depth, spacing):  # type: ignore[no-untyped-def]
    grid = occupancy.shape[0]
    count = depth.shape[1]
    for r in prange(directions.shape[0]):
        near, far = 0.0, 1e9
        for axis in range(3):
            d = directions[r, axis]
            if abs(d) < 1e-9:
                if abs(origin[axis]) > 1.0:
                    far = -1.0
                continue
            t0, t1 = (-1.0 - origin[axis]) / d, (1.0 - origin[axis]) / d
            near, far = max(near, min(t0, t1)), min(far, max(t0, t1))
        far = min(far, stop_depth[r])
        if far <= near:
            continue
        length = np.sqrt(directions[r, 0] ** 2 + directions[r, 1] ** 2 + directions[r, 2] ** 2)
        step = 1.0 / (grid * length)  # half a cell
        steps = min(int((far - near) / step) + 1, 4 * grid)
        step = (far - near) / steps  # so that the last step ends at far, not beyond
        occupied = 0
        for i in range(steps):
            if _inside(occupancy, origin, directions[r], near + (i + 0.5) * step, grid):
                occupied += 1
        if occupied == 0:
            continue
        # Lengths are counted in steps of occupied cells.
        reach = min(float(occupied), HAIR_REACH / (step * length))
        seen = 0
        k = 0
        for i in range(steps):
            z = near + (i + 0.5) * step
            if _inside(occupancy, origin, directions[r], z, grid):
                while k < count:
                    start = reach * (k / count) ** HAIR_BIAS
                    stop = reach * ((k + 1) / count) ** HAIR_BIAS
                    at = start + jitter[r, k] * (stop - start)
                    if at >= seen + 1:
                        break
                    depth[r, k] = near + (i + at - seen) * step
                    spacing[r, k] = (stop - start) * step * length
                    k += 1
                seen += 1


@njit(cache=True, inline="always")
def _inside(occupancy, origin, direction, z, grid):  # type: ignore[no-untyped-def]
    x = int((origin[0] + z * direction[0] + 1.0) * 0.5 * grid)
    y = int((origin[1] + z * direction[1] + 1.0) * 0.5 * grid)
    w = int((origin[2] + z * direction[2] + 1.0) * 0.5 * grid)
    if x < 0 or y < 0 or w < 0 or x >= grid or y >= grid or w >= grid:
        return False
    return occupancy[w, y, x] != 0


def composite(depth: Tensor, optical: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Front-to-back compositing of sorted samples (NeRF, Mildenhall 2020, eq. 3).

    Args:
        depth: (R, K) sample depths in any order; +inf for unused slots.
        optical: (R, K) density × spacing, 0 for unused slots.
        values: (R, K, C) what the samples emit.

    Returns:
        (R, C) Σ wᵢ·valueᵢ and (R, K) the weights wᵢ in the order given.
    """
    order = depth.argsort(1)
    sorted_optical = optical.gather(1, order)
    before = torch.cumsum(sorted_optical, 1) - sorted_optical
    weights = torch.exp(-before) * -torch.expm1(-sorted_optical)
    weights = torch.zeros_like(weights).scatter(1, order, weights)
    return (weights[..., None] * values).sum(1), weights

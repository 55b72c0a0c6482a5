"""Splatting on the CPU: the numba kernels as differentiable torch functions.

Two functions in a row, as in gsplat: projection (means, quaternions, scales → 2-D means, conics,
depths) and compositing (those, opacities, colours → layers). The 2-D means between them are an
ordinary torch tensor, so densification can read its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from head360.rendering import splats_projection, splats_tiles
from head360.rendering.splats import Gaussians, Layers, Pinhole, keep_gradient
from head360.rendering.splats_tiles import PACKED, SLOT, TILE

Array = NDArray[Any]


def rasterize_cpu(gaussians: Gaussians, pinhole: Pinhole, antialiased: bool) -> Layers:
    """See :func:`head360.rendering.splats.render_splats`; the layers stay on the inputs' device.

    The same inputs give the same bytes, gradients included, with any number of threads.
    """
    device = gaussians.means.device
    means2d, conics, depths, compensations = _Project.apply(
        gaussians.means.cpu(), gaussians.quaternions.cpu(), gaussians.scales.cpu(), pinhole
    )
    opacities = gaussians.opacities.cpu()
    if antialiased:
        opacities = opacities * compensations
    keep_gradient(means2d)
    planes, radii = _Composite.apply(
        means2d, conics, depths, opacities, gaussians.colours.cpu(), pinhole.width, pinhole.height
    )
    planes = planes.to(device)
    return Layers(planes[:3].permute(1, 2, 0), planes[3], planes[4], means2d, radii.to(device))


def _numpy(tensor: Tensor) -> Array:
    """A C-contiguous view where possible; the kernels are compiled for contiguous arrays only."""
    return np.ascontiguousarray(tensor.detach().numpy())


def _pinhole_numbers(pinhole: Pinhole) -> tuple[float, ...]:
    """(fx, fy, cx, cy, width, height), one type of tuple for the compiler."""
    return (*pinhole.focal, *pinhole.centre, float(pinhole.width), float(pinhole.height))


class _Project(torch.autograd.Function):
    """(N, 3), (N, 4), (N, 3) → means (N, 2), conics (N, 3), depths (N,), compensations (N,)."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quaternions: Tensor, scales: Tensor, pinhole: Pinhole
    ) -> tuple[Tensor, ...]:
        outputs = tuple(means.new_empty(len(means), *tail) for tail in ((2,), (3,), (), ()))
        means2d, conics, depths, compensations = (t.numpy() for t in outputs)
        splats_projection.project(
            _numpy(means),
            _numpy(quaternions),
            _numpy(scales),
            pinhole.world2cam,
            _pinhole_numbers(pinhole),
            pinhole.near,
            means2d,
            conics,
            depths,
            compensations,
        )
        ctx.save_for_backward(means, quaternions, scales)
        ctx.pinhole = pinhole
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        means, quaternions, scales = (_numpy(t) for t in ctx.saved_tensors)
        d_means2d, d_conics, d_depths, d_compensations = (_numpy(grad) for grad in grads)
        outputs = tuple(torch.empty(t.shape, dtype=t.dtype) for t in ctx.saved_tensors)
        d_means, d_quaternions, d_scales = (t.numpy() for t in outputs)
        pinhole: Pinhole = ctx.pinhole
        splats_projection.project_backward(
            means,
            quaternions,
            scales,
            pinhole.world2cam,
            _pinhole_numbers(pinhole),
            pinhole.near,
            d_means2d,
            d_conics,
            d_depths,
            d_compensations,
            d_means,
            d_quaternions,
            d_scales,
        )
        return (*outputs, None)


@dataclass(frozen=True)
class _Tiles:
    """Which splats lie in which tiles. M visible splats in depth order, P pairs, T tiles.

    Attributes:
        columns: tiles per row of tiles.
        packed: (M, 12) splats, nearest first; see ``splats_tiles.PACKED``.
        order: (M,) int64 index of each among the N Gaussians.
        first: (M + 1,) int64: pairs of splat m are ``first[m]:first[m + 1]``.
        places: (P,) int64 where each pair lies in ``lists``.
        starts: (T + 1,) int64: the list of tile t is ``lists[starts[t]:starts[t + 1]]``.
        lists: (P,) int32 rows of ``packed``.
        queue: tiles that have splats, longest list first: threads take them one at a time, so the
            long ones must not come last.
    """

    columns: int
    packed: Array
    order: Array
    first: Array
    places: Array
    starts: Array
    lists: Array
    queue: Array


def _depth_order(depths: Array, visible: Array) -> Array:
    """Indices of the visible splats, nearest first, ties in index order."""
    indices = np.flatnonzero(visible)
    if depths.dtype != np.float32:
        return indices[np.argsort(depths[indices], kind="stable")]
    # Positive floats sort as their bits do. With the index below them all keys differ, so numpy's
    # fast unstable sort will do: four times faster than a stable argsort.
    keys = depths[indices].view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys |= indices.astype(np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _sort_into_tiles(splats: list[Array], width: int, height: int) -> tuple[_Tiles, Array]:
    """Cull, sort and bin. ``splats`` = means2d, conics, depths, opacities, colours.

    Returns the tiles and the (N,) radii in pixels.
    """
    means2d, conics, depths, opacities, colours = splats
    extents = np.empty_like(means2d)
    splats_tiles.measure(means2d, conics, opacities, depths, width, height, extents)
    radii = np.maximum(extents[:, 0], extents[:, 1])
    order = _depth_order(depths, radii > 0)
    packed = np.empty((len(order), PACKED), means2d.dtype)
    splats_tiles.pack(order, means2d, conics, opacities, colours, depths, extents, packed)

    columns, rows = -(-width // TILE), -(-height // TILE)
    first = np.zeros(len(order) + 1, np.int64)
    histogram = np.zeros((splats_tiles.CHUNKS, rows * columns), np.int64)
    splats_tiles.count_pairs(packed, rows, columns, first, histogram)
    np.cumsum(first, out=first)
    # Entries lie tile by tile, within a tile chunk by chunk, so every list is in depth order.
    ends = np.cumsum(histogram.T).reshape(-1, splats_tiles.CHUNKS).T
    cursor = np.ascontiguousarray(ends - histogram)
    starts = np.append(cursor[0], ends[-1, -1])
    lists, places = np.empty(first[-1], np.int32), np.empty(first[-1], np.int64)
    splats_tiles.fill_pairs(packed, rows, columns, first, cursor, lists, places)

    lengths = np.diff(starts)
    queue = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    return _Tiles(columns, packed, order, first, places, starts, lists, queue), radii


class _Composite(torch.autograd.Function):
    """Projected splats → layers (5, H, W): Σw·rgb, Σw·z, transmittance; and radii (N,)."""

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        depths: Tensor,
        opacities: Tensor,
        colours: Tensor,
        width: int,
        height: int,
    ) -> tuple[Tensor, Tensor]:
        splats = [_numpy(t) for t in (means2d, conics, depths, opacities, colours)]
        tiles, radii = _sort_into_tiles(splats, width, height)
        layers = np.zeros((5, height, width), splats[0].dtype)
        layers[4] = 1.0
        last = np.full((height, width), -1, np.int32)
        with numba.parallel_chunksize(1):
            splats_tiles.composite(
                tiles.packed,
                tiles.lists,
                tiles.starts,
                tiles.queue,
                tiles.columns,
                TILE,
                layers,
                last,
            )
        result = torch.from_numpy(layers)
        sizes = torch.from_numpy(radii)
        ctx.mark_non_differentiable(sizes)
        ctx.save_for_backward(result)
        ctx.tiles, ctx.last, ctx.count = tiles, last, len(means2d)
        return result, sizes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tiles: _Tiles = ctx.tiles
        layers = _numpy(ctx.saved_tensors[0])
        # np.zeros takes pages from the system when they are first written: lists that a tile
        # leaves early, behind opaque splats, cost no memory here.
        slots = np.zeros((len(tiles.lists), SLOT), layers.dtype)
        with numba.parallel_chunksize(1):
            splats_tiles.composite_backward(
                tiles.packed,
                tiles.lists,
                tiles.starts,
                tiles.queue,
                tiles.columns,
                TILE,
                layers,
                ctx.last,
                _numpy(grads[0]),
                slots,
            )
        total = np.zeros((ctx.count, SLOT), layers.dtype)
        splats_tiles.gather(tiles.order, tiles.first, tiles.places, slots, total)
        whole = torch.from_numpy(total)
        return whole[:, :2], whole[:, 2:5], whole[:, 9], whole[:, 5], whole[:, 6:9], None, None
